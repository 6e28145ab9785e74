"""The figures of the walkthrough."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

FOLDER = Path("docs/walkthrough")


def pictures(name: str, shown: Mapping[str, NDArray[np.generic]], *, columns: int = 4) -> str:
    """Draw pictures side by side, gray or in colour, and return the Markdown that shows them."""
    rows = -(-len(shown) // columns)
    figure = Figure(figsize=(2.1 * columns, 2.3 * rows), layout="constrained")
    all_axes = np.atleast_1d(figure.subplots(rows, columns)).ravel()
    for axes in all_axes:
        axes.axis("off")
    for axes, (title, image) in zip(all_axes, shown.items(), strict=False):
        axes.imshow(image, cmap="gray")
        axes.set_title(title, fontsize=9)
    return _save(figure, name)


def lines(
    name: str, curves: Mapping[str, Sequence[float]], x: Sequence[float], x_label: str, y_label: str
) -> str:
    """Draw curves, and return the Markdown that shows them."""
    figure = Figure(figsize=(6, 3.2), layout="constrained")
    axes = figure.subplots()
    for label, values in curves.items():
        axes.plot(x, values, marker="o", markersize=3, label=label)
    axes.set(xlabel=x_label, ylabel=y_label)
    axes.grid(alpha=0.3)
    axes.legend()
    return _save(figure, name)


def _save(figure: Figure, name: str) -> str:
    FOLDER.mkdir(parents=True, exist_ok=True)
    # Without a date and a version of matplotlib, the same figure gives the same file.
    figure.savefig(FOLDER / f"{name}.png", dpi=90, metadata={"Software": None})
    return f"![{name}](walkthrough/{name}.png)"
