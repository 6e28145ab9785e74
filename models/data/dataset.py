"""The interface of every data set, and its division into parts."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from convd.artifact.preprocessing import (
    CenterCrop,
    Preprocessing,
    ResizeShorterSide,
    ResizeTo,
)
from convd.models.augmentation import Augmentation
from convd.models.errors import DataError

HELD_OUT_SHARE = 0.2
"""Share of a data set that is held out if it is not published in parts."""


class ImageDataset(Protocol):
    """Pictures and their classes.

    Attributes:
        labels: Class names in the order of the targets.
    """

    labels: tuple[str, ...]

    def __len__(self) -> int:
        """Number of pictures."""
        ...

    def picture(self, index: int) -> Image.Image:
        """One picture as it was stored, before any preprocessing."""
        ...

    def target(self, index: int) -> int:
        """Index of its class in `labels`."""
        ...


class DatasetSubset:
    """A selection of pictures from a data set, with all or some of its classes.

    Args:
        dataset: The data set to select from.
        indices: The pictures to select, in order.
        classes: Indices of the classes to keep, in their new order; None keeps all as they are.
    """

    def __init__(
        self, dataset: ImageDataset, indices: Sequence[int], classes: Sequence[int] | None = None
    ) -> None:
        kept = range(len(dataset.labels)) if classes is None else classes
        self.labels = tuple(dataset.labels[index] for index in kept)
        self._new_target = {old: new for new, old in enumerate(kept)}
        self._dataset = dataset
        self._indices = [int(index) for index in indices]

    def __len__(self) -> int:
        return len(self._indices)

    def picture(self, index: int) -> Image.Image:
        """One picture as it was stored."""
        return self._dataset.picture(self._indices[index])

    def target(self, index: int) -> int:
        """Index of its class in `labels`."""
        return self._new_target[self._dataset.target(self._indices[index])]


@dataclass(frozen=True)
class DatasetSplits:
    """A data set, divided into training pictures and held-out ones.

    Attributes:
        train: Pictures to train on.
        held_out: Pictures that training never sees.
        held_out_name: A description of the held-out pictures.
        channels: 1 for grayscale pictures, 3 for colour.
        keep_aspect_ratio: Whether to crop rather than squeeze, since the pictures differ in shape.
        augmentation: The random changes that do not change the class of these pictures.
        broken_files: Files that were skipped, with the reason.
    """

    train: ImageDataset
    held_out: ImageDataset
    held_out_name: str
    channels: Literal[1, 3]
    keep_aspect_ratio: bool
    augmentation: Augmentation
    broken_files: tuple[str, ...] = ()

    @property
    def labels(self) -> tuple[str, ...]:
        """Class names in the order of the targets."""
        return self.train.labels

    def preprocessing(self, input_size: int, channels: int | None = None) -> Preprocessing:
        """The preprocessing recipe for these pictures and a network's input.

        Args:
            input_size: Height and width of the network's input, in pixels.
            channels: 1 or 3; None takes those of the pictures.
        """
        channel_order: Literal["L", "RGB"] = "L" if (channels or self.channels) == 1 else "RGB"
        if self.keep_aspect_ratio:
            # The usual evaluation recipe scales to 256 pixels and keeps 224.
            return Preprocessing(
                resize=ResizeShorterSide(size=round(input_size * 256 / 224)),
                center_crop=CenterCrop(height=input_size, width=input_size),
                channel_order=channel_order,
                apply_exif_orientation=True,
            )
        return Preprocessing(
            resize=ResizeTo(height=input_size, width=input_size), channel_order=channel_order
        )

    def restricted_to(self, classes: Sequence[str]) -> "DatasetSplits":
        """Keep some classes only, in the given order.

        Raises:
            DataError: A class does not exist, is named twice, or has no pictures.
        """
        for name in classes:
            if name not in self.labels:
                raise DataError(f"there is no class {name!r}: choose from {', '.join(self.labels)}")
        if len(set(classes)) != len(classes):
            raise DataError(f"{', '.join(classes)} names a class twice: name each once")
        if len(classes) < 2:
            raise DataError("one class is not enough to classify: name at least two")
        return replace(
            self,
            train=_restricted(self.train, classes),
            held_out=_restricted(self.held_out, classes),
            held_out_name=f"{self.held_out_name}, classes {', '.join(classes)}",
        )


def targets_of(dataset: ImageDataset) -> list[int]:
    """Targets of all pictures, in order."""
    return [dataset.target(index) for index in range(len(dataset))]


def split(dataset: ImageDataset, *, share: float, seed: int) -> tuple[DatasetSubset, DatasetSubset]:
    """Divide a data set so that each class has the same share in both parts.

    Args:
        dataset: The data set to divide.
        share: Share of the second part, 0 to 1.
        seed: Seed of the division.

    Returns:
        The larger part and the part set aside, each in the data set's order.

    Raises:
        DataError: A class has too few pictures to appear in both parts.
    """
    targets = targets_of(dataset)
    counts = np.bincount(targets, minlength=len(dataset.labels))
    if counts.min() < 2:
        scarce = dataset.labels[int(counts.argmin())]
        raise DataError(
            f"class {scarce!r} has too few pictures ({counts.min()}): each class needs at least 2, "
            "one to train on and one to hold out"
        )
    generator = np.random.default_rng(seed)
    aside: list[int] = []
    for kind, size in enumerate(_proportional(counts, share)):
        members = np.flatnonzero(np.equal(targets, kind))
        aside.extend(generator.permutation(members)[:size].tolist())
    rest = sorted(set(range(len(targets))) - set(aside))
    return DatasetSubset(dataset, rest), DatasetSubset(dataset, sorted(aside))


def _proportional(counts: NDArray[np.intp], share: float) -> NDArray[np.intp]:
    """How many of each class make up a share of all, with some of each class on both sides."""
    quota = counts * share
    sizes: NDArray[np.intp] = np.clip(np.floor(quota).astype(np.intp), 1, counts - 1)
    while sizes.sum() < np.ceil(counts.sum() * share) and (sizes < counts - 1).any():
        sizes[np.argmax(np.where(sizes < counts - 1, quota - sizes, -np.inf))] += 1
    return sizes


def _restricted(dataset: ImageDataset, classes: Sequence[str]) -> DatasetSubset:
    kept = [dataset.labels.index(name) for name in classes]
    indices = [index for index in range(len(dataset)) if dataset.target(index) in kept]
    subset = DatasetSubset(dataset, indices, kept)
    missing = set(range(len(kept))) - set(targets_of(subset))
    if missing:
        raise DataError(f"class {classes[min(missing)]!r} has no pictures: leave it out")
    return subset
