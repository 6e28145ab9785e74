"""`make export-mutations`: deliberate faults in the export path, each stopped by the export itself.

Every fault is put into convd's own code while a network is exported that is right without it. A
fault that is not stopped publishes wrong answers, so the command fails. The list goes into
docs/export.md.
"""

import sys
import tempfile
import warnings
from pathlib import Path

from tests.export.mutation.faults import MUTATIONS
from tests.export.mutation.running import Outcome, run

PAGE = Path("docs/export.md")
BEGIN, END = "<!-- export-mutations: begin -->\n", "<!-- export-mutations: end -->\n"


def main() -> None:
    """Run every export without a fault, then every fault; write the list."""
    warnings.simplefilter("ignore")
    for export in dict.fromkeys(mutation.export for mutation in MUTATIONS):
        with tempfile.TemporaryDirectory() as folder:
            export(Path(folder))
        print(f"right without a fault: {export.__name__}", flush=True)  # noqa: T201
    outcomes = []
    for mutation in MUTATIONS:
        outcomes.append(run(mutation))
        print(outcomes[-1], flush=True)  # noqa: T201
    _write(outcomes)
    published = [outcome.what for outcome in outcomes if outcome.stopped_by is None]
    if published:
        sys.exit(f"wrong answers were published: {', '.join(published)}")


def _write(outcomes: list[Outcome]) -> None:
    stopped = sum(outcome.stopped_by is not None for outcome in outcomes)
    lines = [
        f"{stopped} of {len(outcomes)} faults are stopped:",
        "",
        "| fault | stopped by |",
        "| --- | --- |",
        *(f"| {outcome.what} | {outcome.stopped_by or 'nothing'} |" for outcome in outcomes),
    ]
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    text = "\n".join(lines)
    PAGE.write_text(f"{before}{BEGIN}{text}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
