"""The frontier of throughput against latency, as a table and as a picture."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from convd.commands.tuning.race import Point
from convd.commands.tuning.search import Outcome


@dataclass(frozen=True)
class Row:
    """What one choice did with a number of callers; medians over its measurements.

    Attributes:
        choice: The choice, in words.
        callers: Callers that waited for answers.
        images_per_second: Throughput.
        p50_ms: The latency that half of the requests kept.
        p99_ms: The latency that 99 of 100 requests kept.
        role: `default`, `current` and `best`, as far as it is these.
        on_frontier: Whether no other row has both more throughput and a lower p99.
    """

    choice: str
    callers: int
    images_per_second: float
    p50_ms: float
    p99_ms: float
    role: str
    on_frontier: bool


def rows_of(outcome: Outcome) -> list[Row]:
    """A row for each choice and number of callers, the highest throughput first."""
    named = {"default": outcome.baseline, "current": outcome.current, "best": outcome.best}
    roles: dict[str, list[str]] = defaultdict(list)
    for role, contestant in named.items():
        if role != "current" or contestant is not outcome.baseline:
            roles[str(contestant)].append(role)
    measured: dict[tuple[str, int], list[Point]] = defaultdict(list)
    for point in outcome.points:
        measured[str(point.contestant), point.callers].append(point)
    figures = {
        key: (
            median(point.report.images_per_second for point in points),
            median(point.report.latency_seconds[50.0] for point in points) * 1e3,
            median(point.p99_seconds for point in points) * 1e3,
        )
        for key, points in measured.items()
    }
    pairs = [(rate, p99) for rate, _, p99 in figures.values()]
    rows = [
        Row(
            choice,
            callers,
            rate,
            p50,
            p99,
            ", ".join(roles.get(choice, [])),
            not any(r >= rate and p <= p99 and (r, p) != (rate, p99) for r, p in pairs),
        )
        for (choice, callers), (rate, p50, p99) in figures.items()
    ]
    return sorted(rows, key=lambda row: -row.images_per_second)


def plot(rows: Sequence[Row], path: Path, title: str, p99_ms: float | None) -> None:
    """Draw every row, and the frontier as a line.

    Args:
        rows: The rows.
        path: Where to write; the suffix says the format.
        title: Above the picture.
        p99_ms: The bound of latency; None for none.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(9, 5.5))
    frontier = sorted(
        (row for row in rows if row.on_frontier), key=lambda row: row.images_per_second
    )
    axes.plot(
        [row.images_per_second for row in frontier],
        [row.p99_ms for row in frontier],
        "-",
        alpha=0.5,
    )
    for row in rows:
        marker = "o" if row.role else "."
        axes.plot(row.images_per_second, row.p99_ms, marker, color="C1" if row.role else "C0")
        if row.role or row.on_frontier:
            role = f" ({row.role})" if row.role else ""
            axes.annotate(
                f"{row.choice}{role}\n{row.callers} callers",
                (row.images_per_second, row.p99_ms),
                textcoords="offset points",
                xytext=(5, 4),
                fontsize=7,
            )
    if p99_ms is not None:
        axes.axhline(p99_ms, linestyle="--", color="gray", label=f"p99 of {p99_ms:g} ms")
        axes.legend()
    axes.set_title(title)
    axes.set_xlabel("images per second")
    axes.set_ylabel("p99 (ms)")
    axes.set_ylim(bottom=0)
    axes.grid(visible=True, alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)
