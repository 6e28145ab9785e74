"""Plots of a training run."""

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from convd.models.output import writing
from convd.models.records import EpochRecord

LEARNING_CURVE_FILE = "learning-curve.png"
CONFUSION_MATRIX_FILE = "confusion-matrix.png"

_MOST_LABELS = 40
_MOST_NUMBERS = 15


def plot_learning_curve(records: Sequence[EpochRecord], path: Path) -> None:
    """Draw loss and accuracy over the epochs.

    Args:
        records: One record per epoch; at least one.
        path: A PNG file.
    """
    # matplotlib is slow to import, and only a finished run needs it.
    from matplotlib.figure import Figure

    epochs = [record.epoch for record in records]
    figure = Figure(figsize=(10, 4), layout="constrained")
    loss, accuracy = figure.subplots(1, 2)
    loss.plot(epochs, [record.train_loss for record in records], marker=".", label="training")
    # Records of runs that an earlier version began have no such loss.
    watched = [(one.epoch, one.watched_loss) for one in records if one.watched_loss is not None]
    if watched:
        loss.plot(*zip(*watched, strict=True), label=records[-1].watched)
    loss.set(xlabel="epoch", ylabel="loss", title="Loss")
    accuracy.plot(epochs, [record.train_accuracy for record in records], label="training")
    accuracy.plot(
        epochs, [record.watched_accuracy for record in records], label=records[-1].watched
    )
    accuracy.set(xlabel="epoch", ylabel="accuracy", title="Accuracy")
    # Next to the curves, which may be anywhere.
    figure.legend(*accuracy.get_legend_handles_labels(), loc="outside right center")
    for axes in (loss, accuracy):
        axes.grid(alpha=0.3)
    with writing(path) as partial:
        figure.savefig(partial, dpi=120, format="png")


def plot_confusion_matrix(confusion: Tensor, labels: Sequence[str], path: Path) -> None:
    """Draw how often each true class was predicted as each class.

    Args:
        confusion: int64 `[classes, classes]`, pictures per true (row) and predicted (column) class.
        labels: Class names.
        path: A PNG file.
    """
    from matplotlib.figure import Figure

    classes = len(labels)
    side = min(max(4.0, 0.45 * classes), 16.0)
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    axes = figure.subplots()
    # Colour shows the share of the true class, so rare classes are as visible as common ones.
    shares = confusion.double() / confusion.sum(dim=1, keepdim=True).clamp(min=1)
    picture = axes.imshow(shares.numpy(), cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(picture, label="share of the true class")
    axes.set(xlabel="predicted class", ylabel="true class", title="Held-out pictures")
    if classes <= _MOST_LABELS:
        axes.set_xticks(range(classes), labels, rotation=90 if max(map(len, labels)) > 2 else 0)
        axes.set_yticks(range(classes), labels)
    if classes <= _MOST_NUMBERS:
        for row in range(classes):
            for column in range(classes):
                count = int(confusion[row, column])
                if count:
                    color = "white" if shares[row, column] > 0.5 else "black"
                    axes.text(column, row, str(count), ha="center", va="center", color=color)
    with writing(path) as partial:
        figure.savefig(partial, dpi=120, format="png")
