"""What `convd tune` says of its outcome: a table, sentences, or JSON."""

import dataclasses
from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.table import Table

from convd.artifact.repository import CONFIGURATION_FILE
from convd.commands.tuning.configuration_text import lines_of
from convd.commands.tuning.frontier import Row
from convd.commands.tuning.published_model import PublishedModel
from convd.commands.tuning.race import LEAST_GAIN, Gain
from convd.commands.tuning.search import Outcome


def show_rows(rows: Sequence[Row]) -> None:
    """Print the table; rows on the frontier have an asterisk."""
    table = Table(box=None)
    table.add_column("choice", no_wrap=True)
    for heading in ("callers", "images/s", "p50 ms", "p99 ms"):
        table.add_column(heading, justify="right")
    table.add_column("frontier")
    for row in rows:
        figures = (f"{row.images_per_second:.1f}", f"{row.p50_ms:.1f}", f"{row.p99_ms:.1f}")
        mark = "*" if row.on_frontier else ""
        table.add_row(row.choice, str(row.callers), *figures, f"{mark} {row.role}".strip())
    Console(highlight=False, markup=False, soft_wrap=True).print(table)


def conclusions(model: PublishedModel, outcome: Outcome, *, written: bool) -> Iterator[str]:
    """What follows from an outcome, a line each.

    Args:
        model: The model.
        outcome: The outcome.
        written: Whether the best choice was written to `config.yaml`.
    """
    file = f"{model.name}/{CONFIGURATION_FILE}"
    if not outcome.keeps_bound:
        least = min(outcome.points, key=lambda point: point.p99_seconds)
        yield (
            f"no choice keeps a p99 of {(outcome.goal.p99_seconds or 0) * 1e3:g} ms on this "
            f"machine; the lowest was {least.p99_seconds * 1e3:.1f} ms, with {least.callers} "
            f"callers and {least.contestant}; {file} stays as it is"
        )
        return
    yield f"best: {outcome.best}, on {outcome.best.computed_by}"
    if outcome.best is outcome.current:
        yield from _why_it_stays(file, outcome)
    elif written:
        yield f"it answers {_times(outcome.gain)} what {file} answered before; {file} is written"
        if model.is_signed:
            yield "its signature no longer holds: sign the versions again with 'convd sign'"
    else:
        yield f"it answers {_times(outcome.gain)} what {file} answers now, which should have"
        yield lines_of(outcome.best.choice).rstrip()
        if model.is_remote:
            yield "the repository lies in object storage: write these lines there"
    if outcome.baseline_gain is not None and outcome.best is outcome.found:
        yield f"the default reaches {1 / outcome.baseline_gain.ratio:.2f} of it"
    for count, gain in outcome.workers.items():
        yield f"--workers {count} answers {_times(gain)} what one process answers"
    for what, gain in outcome.alternatives.items():
        yield f"{what} answers {_times(gain)} what this version answers"
    for choice, reason in outcome.refusals.items():
        yield f"not measured: {choice}: {reason}"


def as_json(
    model: PublishedModel, outcome: Outcome, rows: Sequence[Row], *, written: bool
) -> dict[str, object]:
    """An outcome as JSON has it."""
    return {
        "model": model.name,
        "version": model.version,
        "best": outcome.best.choice.changes(),
        "computed_by": outcome.best.computed_by,
        "keeps_p99": outcome.keeps_bound,
        "written": written,
        "found": outcome.found.choice.changes(),
        "gain": outcome.gain and dataclasses.asdict(outcome.gain),
        "gain_over_default": outcome.baseline_gain and dataclasses.asdict(outcome.baseline_gain),
        "workers": {count: dataclasses.asdict(gain) for count, gain in outcome.workers.items()},
        "alternatives": {
            what: dataclasses.asdict(gain) for what, gain in outcome.alternatives.items()
        },
        "refusals": dict(outcome.refusals),
        "rows": [dataclasses.asdict(row) for row in rows],
    }


def _why_it_stays(file: str, outcome: Outcome) -> Iterator[str]:
    if outcome.gain is None:
        yield f"{file} stays as it is: the search found nothing better"
        return
    noise = max(outcome.gain.noise, LEAST_GAIN)
    yield (
        f"{file} stays as it is: {outcome.found} answers {outcome.gain.ratio:.2f} times as much, "
        f"and a difference below {noise:.2f} may be noise"
    )


def _times(gain: Gain | None) -> str:
    return "as much as" if gain is None else f"{gain.ratio:.2f} times (noise {gain.noise:.2f})"
