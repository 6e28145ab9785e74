"""The pictures of a model card."""

from collections.abc import Mapping
from pathlib import Path, PurePosixPath

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from convd.artifact.manifest import Task
from convd.export.report.calibration import Calibration
from convd.export.report.evaluation import RELIABILITY_BINS, Evaluation, reliability
from convd.export.report.model_card import CONFUSION_PLOT, RELIABILITY_PLOT
from convd.export.sources.labelled_pictures import Truth

MAX_CLASSES = 30
"""More rows of a confusion matrix than this cannot be read."""


def draw(
    folder: Path,
    labels: tuple[str, ...],
    evaluation: Evaluation | None,
    calibration: Calibration | None,
) -> list[PurePosixPath]:
    """Draw what is known of a network into its artifact.

    Args:
        folder: The artifact.
        labels: Class names.
        evaluation: The answers to the evaluation data; None where there were none.
        calibration: What the temperature did; None where none was fitted.

    Returns:
        The pictures, relative to the artifact.
    """
    plots = []
    if calibration is not None:
        curves = {"before": calibration.before, "after": calibration.after}
        path = folder / RELIABILITY_PLOT
        plot_reliability(path, curves, calibration.truth, calibration.task)
        plots.append(RELIABILITY_PLOT)
    elif evaluation is not None:
        curves = {"as published": evaluation.probabilities}
        plot_reliability(folder / RELIABILITY_PLOT, curves, evaluation.truth, evaluation.task)
        plots.append(RELIABILITY_PLOT)
    if evaluation is not None and evaluation.task == "multiclass":
        plot_confusion(folder / CONFUSION_PLOT, evaluation.confusion(), labels)
        plots.append(CONFUSION_PLOT)
    return plots


def plot_reliability(
    path: Path, curves: Mapping[str, NDArray[np.float32]], truth: Truth, task: Task
) -> None:
    """Draw how often the network is right, by how sure it is.

    Args:
        path: The PNG to write.
        curves: Probabilities, float32 `[pictures, classes]`, by the name of their curve.
        truth: Which labels are true of each picture, bool `[pictures, labels]`.
        task: Whether the labels exclude each other.
    """
    figure = Figure(figsize=(6.5, 5.5), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    upper.plot([0, 1], [0, 1], color="0.7", linestyle="--", label="perfect")
    edges = np.linspace(0, 1, RELIABILITY_BINS + 1)
    for name, probabilities in curves.items():
        curve = reliability(probabilities, truth, task)
        full = curve.counts > 0
        upper.plot(
            curve.confidence[full],
            curve.accuracy[full],
            marker="o",
            label=f"{name}: error {curve.expected_error:.3f}",
        )
        lower.stairs(curve.counts, edges, label=name)
    upper.set(ylabel="accuracy", ylim=(0, 1), title="Reliability")
    # Next to the curves, which may be anywhere.
    figure.legend(*upper.get_legend_handles_labels(), loc="outside right upper")
    lower.set(xlabel="confidence", ylabel="pictures", xlim=(0, 1))
    _save(figure, path)


def plot_confusion(path: Path, confusion: NDArray[np.int64], labels: tuple[str, ...]) -> None:
    """Draw which classes are taken for which; of many classes, those with the most errors.

    Args:
        path: The PNG to write.
        confusion: Pictures per true class (row) and predicted class (column).
        labels: Names of the classes.
    """
    errors = confusion.sum(axis=0) + confusion.sum(axis=1) - 2 * confusion.diagonal()
    shown = np.sort(np.argsort(-errors, kind="stable")[:MAX_CLASSES])
    cells = confusion[np.ix_(shown, shown)]
    size = max(4.0, 0.32 * len(shown) + 1.5)
    figure = Figure(figsize=(size, size), layout="constrained")
    axes = figure.subplots()
    axes.imshow(cells, cmap="Blues")
    names = [labels[index] for index in shown]
    axes.set_xticks(range(len(shown)), names, rotation=90)
    axes.set_yticks(range(len(shown)), names)
    axes.set(xlabel="predicted", ylabel="true", title="Confusion")
    for row, column in zip(*np.nonzero(cells), strict=True):
        dark = cells[row, column] > cells.max() / 2
        axes.text(
            column,
            row,
            str(cells[row, column]),
            ha="center",
            va="center",
            color="white" if dark else "black",
            fontsize="small",
        )
    _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    # Without a date and a version of matplotlib, the same figure gives the same file.
    figure.savefig(path, dpi=100, metadata={"Software": None})
