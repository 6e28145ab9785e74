"""A curve: figures by a quantity that grows, with the reason for each bend."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from bench.document import table

SUDDEN = 2.5
"""A cost that grows this many times faster than the quantity, from one row to the next, and that no
reason explains, is a cliff."""


@dataclass(frozen=True)
class Column:
    """What was measured.

    Attributes:
        heading: Its name and unit.
        values: A value for each row.
        is_cost: Whether it should grow no faster than the quantity.
    """

    heading: str
    values: Sequence[float]
    is_cost: bool = False


@dataclass(frozen=True)
class Curve:
    """What was measured as one quantity grew.

    Attributes:
        name: Name of its picture's file.
        title: Its heading.
        quantity: What grows.
        rows: The values of the quantity, ascending.
        columns: What was measured.
        reasons: The reason for each bend, by where it is, such as "above 4096".
        how: How it was measured.
    """

    name: str
    title: str
    quantity: str
    rows: Sequence[int]
    columns: Sequence[Column]
    reasons: Sequence[tuple[str, str]]
    how: str

    def section(self, pictures: str) -> str:
        """The curve as a part of a document.

        Args:
            pictures: The folder of the pictures, relative to the document.
        """
        rows = zip(self.rows, *(column.values for column in self.columns), strict=True)
        headings = [self.quantity, *(column.heading for column in self.columns)]
        figures = table(headings, [(first, *map(_shown, rest)) for first, *rest in rows])
        bends = table(["Where", "Why"], self.reasons) if self.reasons else "No bend."
        parts = [f"## {self.title}", self.how, figures, bends, *self.cliffs()]
        return "\n\n".join([*parts, f"![{self.title}]({pictures}/{self.name}.svg)"])

    def cliffs(self) -> list[str]:
        """Steps on which a cost grows much faster than the quantity, in words."""
        found = []
        for column in self.columns:
            if not column.is_cost:
                continue
            values = column.values
            for place in range(1, len(self.rows)):
                growth = values[place] / max(values[place - 1], 1e-9)
                step = self.rows[place] / self.rows[place - 1]
                if growth > SUDDEN * step:
                    found.append(
                        f"**Cliff**: {column.heading} grows {growth:.1f} times from "
                        f"{self.rows[place - 1]} to {self.rows[place]}."
                    )
        return found

    def draw(self, path: Path) -> None:
        """Draw each column over the quantity, on logarithmic axes."""
        import matplotlib as mpl

        mpl.use("Agg")
        # The same figures give the same file.
        mpl.rcParams["svg.hashsalt"] = self.name
        from matplotlib import pyplot as plt

        count = len(self.columns)
        figure, axes = plt.subplots(1, count, figsize=(4.5 * count, 3.6), squeeze=False)
        for axis, column in zip(axes[0], self.columns, strict=True):
            axis.plot(self.rows, column.values, "o-")
            axis.set_xscale("log")
            axis.set_yscale("log")
            axis.set_xlabel(self.quantity)
            axis.set_title(column.heading, fontsize=10)
            axis.grid(visible=True, which="both", alpha=0.3)
        figure.tight_layout()
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, metadata={"Date": None})
        plt.close(figure)


def middle(values: Sequence[float]) -> float:
    """The median, which one disturbed run does not move."""
    return median(values)


def _shown(value: float) -> str:
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"
