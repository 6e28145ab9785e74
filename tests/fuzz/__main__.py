"""Fuzzes all targets in turn, each in a process of its own; `make fuzz` and `make fuzz-quick`.

An input that broke something lies in runs/fuzz/TARGET, and its traceback in runs/fuzz/TARGET.log:
mend what it found, and put the input into tests/fuzz/corpus/TARGET, where `make test` replays it.
"""

import argparse
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from bench.document import table, write_document
from bench.machine import machine
from tests.fuzz.target import CORPUS
from tests.fuzz.targets import TARGETS

RUN = Path("runs/fuzz")
DOCUMENT = Path("docs/drills/fuzzing.md")
MAX_INPUT_SECONDS = 10
MAX_RESIDENT_MEBIBYTES = 1024


def main() -> None:
    """Fuzz; exit 1 if an input broke something."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seconds", type=int, default=3600, help="for all targets together")
    options.add_argument("--write", action="store_true", help=f"write {DOCUMENT}")
    options.add_argument("--keep", action="store_true", help="add to the corpus what was reached")
    chosen = options.parse_args()
    before = machine()
    seconds = chosen.seconds // len(TARGETS)
    failed = [name for name in TARGETS if not _fuzz(name, seconds)]
    rows = [_figures(name, broken=name in failed) for name in TARGETS]
    headings = ["Target", "Inputs tried", "Edges of convd and its parsers reached", "Broken by"]
    figures = table(headings, rows)
    if chosen.keep:
        for name in TARGETS:
            _keep(name)
    if chosen.write:
        write_document(
            DOCUMENT,
            "Fuzzing",
            before,
            f"`make fuzz`: coverage-guided mutation with atheris, {seconds} s for each target on "
            f"one core. An input must be answered or refused with an error of convd's own, within "
            f"{MAX_INPUT_SECONDS} s and the memory that was reckoned for it.",
            figures,
        )
    else:
        print(figures)
    if failed:
        raise SystemExit(f"broken: {', '.join(failed)}; {RUN}/TARGET.log has the tracebacks")


def _fuzz(name: str, seconds: int) -> bool:
    """Fuzz one target; whether nothing broke."""
    target = TARGETS[name]
    for folder in (_found(name), _seeds(name), CORPUS / name):
        folder.mkdir(parents=True, exist_ok=True)
    for seed, data in target.seeds.items():
        (_seeds(name) / seed).write_bytes(data)
    print(f"{name}: {seconds} s", flush=True)
    flags = [
        f"-max_total_time={seconds}",
        f"-timeout={MAX_INPUT_SECONDS}",
        f"-rss_limit_mb={MAX_RESIDENT_MEBIBYTES}",
        f"-max_len={target.max_input_bytes}",
        f"-artifact_prefix={RUN / name}/",
        "-print_final_stats=1",
    ]
    return _libfuzzer(name, [*flags, _found(name), _seeds(name), CORPUS / name], _log(name))


def _keep(name: str) -> None:
    """Add the fewest inputs to the corpus that reach what it does not reach yet."""
    for seed in _seeds(name).iterdir():
        (CORPUS / name / seed.name).write_bytes(seed.read_bytes())
    flags = ["-set_cover_merge=1", f"-max_len={TARGETS[name].max_input_bytes}"]
    if not _libfuzzer(name, [*flags, CORPUS / name, _found(name)], RUN / f"{name}-merge.log"):
        raise SystemExit(f"the corpus of {name} cannot be renewed: see {RUN}/{name}-merge.log")
    # The code makes the seeds, and makes them as they must be now.
    for seed in _seeds(name).iterdir():
        (CORPUS / name / seed.name).unlink()


def _libfuzzer(name: str, arguments: Iterable[object], log: Path) -> bool:
    words = [sys.executable, "-m", "tests.fuzz.run_target", name, *map(str, arguments)]
    with log.open("wb") as output:
        return subprocess.run(words, stdout=output, stderr=subprocess.STDOUT).returncode == 0


def _figures(name: str, *, broken: bool) -> tuple[str, str, str, str]:
    log = _log(name).read_text(errors="replace")
    executed = re.search(r"stat::number_of_executed_units: (\d+)", log)
    edges = re.findall(r" cov: (\d+)", log)
    count = f"{int(executed[1]):,}" if executed else "?"
    return name, count, edges[-1] if edges else "?", "an input" if broken else "none"


def _log(name: str) -> Path:
    return RUN / f"{name}.log"


def _found(name: str) -> Path:
    return RUN / name / "found"


def _seeds(name: str) -> Path:
    return RUN / name / "seeds"


if __name__ == "__main__":
    main()
