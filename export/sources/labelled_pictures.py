"""Pictures with what they show, for accuracy and calibration."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from convd.artifact.manifest import Task
from convd.export.errors import SourceError
from convd.models.data import ImageDataset, load_dataset
from convd.models.data.files import read_picture

MULTILABEL = "multilabel:"
"""Begins the specification of pictures with independent labels."""

Truth = NDArray[np.bool_]
"""Which labels are true of each picture, bool `[pictures, labels]`."""


class Pictures(Protocol):
    """Pictures, whatever they show."""

    def __len__(self) -> int:
        """Number of pictures."""
        ...

    def picture(self, index: int) -> Image.Image:
        """One picture as it was stored."""
        ...


class LabelledPictures:
    """Pictures and which of a network's labels are true of each.

    Args:
        pictures: The pictures.
        truth: bool `[pictures, labels]`.
        task: `multiclass` where exactly one label is true of each picture.
        name: Which pictures they are, in words.
    """

    def __init__(self, pictures: Pictures, truth: Truth, task: Task, name: str) -> None:
        self.truth = truth
        self.task = task
        self.name = name
        self._pictures = pictures

    def __len__(self) -> int:
        return len(self._pictures)

    def picture(self, index: int) -> Image.Image:
        """One picture as it was stored."""
        return self._pictures.picture(index)


def load_held_out(spec: str, labels: tuple[str, ...]) -> LabelledPictures:
    """Load the pictures that a network is measured on.

    Args:
        spec: Specification of a data set, as `load_dataset` takes it, of which the part is taken
            that training does not see; or `multilabel:FILE.csv`, all of it.
        labels: The network's labels.

    Raises:
        ModelsError: The data cannot be read.
        SourceError: A class of the data is no label of the network.
    """
    if spec.startswith(MULTILABEL):
        return _load_multilabel(Path(spec.removeprefix(MULTILABEL)).expanduser(), labels)
    splits = load_dataset(spec)
    theirs = set(splits.labels)
    if set(labels) < theirs and len(labels) > 1:
        splits = splits.restricted_to(labels)
        theirs = set(labels)
    _refuse_unknown(sorted(theirs - set(labels)), labels)
    return from_classes(splits.held_out, labels, splits.held_out_name)


def load_training_part(spec: str) -> LabelledPictures:
    """Load the part of a data set that is trained on; its classes do not matter here.

    Raises:
        ModelsError: The data cannot be read.
        SourceError: The table cannot be read.
    """
    if spec.startswith(MULTILABEL):
        return _load_multilabel(Path(spec.removeprefix(MULTILABEL)).expanduser(), None)
    train = load_dataset(spec).train
    return from_classes(train, train.labels, f"the training part of {spec}")


def from_classes(dataset: ImageDataset, labels: Sequence[str], name: str) -> LabelledPictures:
    """Pictures of one class each.

    Args:
        dataset: The pictures; each of its labels is one of the network's.
        labels: The network's labels.
        name: Which pictures they are, in words.
    """
    column = {label: position for position, label in enumerate(labels)}
    columns = np.array([column[label] for label in dataset.labels])
    targets = columns[[dataset.target(index) for index in range(len(dataset))]]
    return LabelledPictures(dataset, np.eye(len(labels), dtype=bool)[targets], "multiclass", name)


class _Files:
    """Image files."""

    def __init__(self, files: Sequence[Path]) -> None:
        self._files = files

    def __len__(self) -> int:
        return len(self._files)

    def picture(self, index: int) -> Image.Image:
        """One decoded file."""
        return read_picture(self._files[index])


def _load_multilabel(path: Path, labels: tuple[str, ...] | None) -> LabelledPictures:
    """A table whose first column names image files, with a column of 0 and 1 for each label."""
    try:
        rows = list(csv.reader(path.read_text(encoding="utf-8-sig").splitlines()))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SourceError(f"{path} cannot be read as CSV: {error}") from error
    rows = [row for row in rows if row]
    form = "write file,even,loop in the first line, and photo.png,0,1 in the others"
    if len(rows) < 2 or len(rows[0]) < 2:
        raise SourceError(f"{path} has no table of labels: {form}")
    named = [name.strip() for name in rows[0][1:]]
    for number, row in enumerate(rows[1:], start=2):
        if len(row) != len(rows[0]) or any(cell.strip() not in ("0", "1") for cell in row[1:]):
            raise SourceError(f"{path}, line {number}: {form}")
    if labels is not None:
        _refuse_unknown([name for name in named if name not in labels], labels)
        missing = [label for label in labels if label not in named]
        if missing:
            raise SourceError(f"{path} has no column for the label {missing[0]!r}: {form}")
    table = np.array([[cell.strip() == "1" for cell in row[1:]] for row in rows[1:]])
    order = [named.index(label) for label in labels or named]
    files = _Files([path.parent / row[0].strip() for row in rows[1:]])
    return LabelledPictures(files, table[:, order], "multilabel", f"the pictures of {path.name}")


def _refuse_unknown(unknown: list[str], labels: tuple[str, ...]) -> None:
    if unknown:
        raise SourceError(
            f"the data have classes that the network does not know: {', '.join(unknown[:5])}; its "
            f"labels are {', '.join(labels[:5])}{', ...' if len(labels) > 5 else ''}: give "
            "--labels, or name the data's classes alike"
        )
