"""The pictures on which a network is evaluated, with targets in the order of its labels."""

from typing import NamedTuple

from PIL import Image

from convd.export.errors import SourceError
from convd.models.data import ImageDataset, load_dataset


class NamedDataset(NamedTuple):
    """Pictures and how they are called in reports."""

    pictures: ImageDataset
    name: str


def load_held_out(spec: str, labels: tuple[str, ...]) -> NamedDataset:
    """Load the part of a data set that training does not see.

    Args:
        spec: Specification of a data set, as `load_dataset` takes it.
        labels: The network's labels.

    Returns:
        Its held-out pictures, with targets that index `labels`.

    Raises:
        ModelsError: The data cannot be read.
        SourceError: A class of the data is no label of the network.
    """
    splits = load_dataset(spec)
    theirs = set(splits.labels)
    if set(labels) < theirs and len(labels) > 1:
        splits = splits.restricted_to(labels)
        theirs = set(labels)
    unknown = sorted(theirs - set(labels))
    if unknown:
        raise SourceError(
            f"the data have classes that the network does not know: {', '.join(unknown[:5])}; its "
            f"labels are {', '.join(labels[:5])}{', ...' if len(labels) > 5 else ''}: give "
            "--labels, or name the data's classes alike"
        )
    return NamedDataset(RelabelledDataset(splits.held_out, labels), splits.held_out_name)


def load_training_part(spec: str) -> NamedDataset:
    """Load the part of a data set that is trained on; its classes do not matter here.

    Raises:
        ModelsError: The data cannot be read.
    """
    return NamedDataset(load_dataset(spec).train, f"the training part of {spec}")


class RelabelledDataset:
    """A data set whose targets index the labels of a network.

    Args:
        dataset: The pictures; each of its labels is one of the network's.
        labels: The network's labels.
    """

    def __init__(self, dataset: ImageDataset, labels: tuple[str, ...]) -> None:
        self.labels = labels
        self._dataset = dataset
        index = {label: position for position, label in enumerate(labels)}
        self._new_target = [index[label] for label in dataset.labels]

    def __len__(self) -> int:
        return len(self._dataset)

    def picture(self, index: int) -> Image.Image:
        """One picture as it was stored."""
        return self._dataset.picture(index)

    def target(self, index: int) -> int:
        """Index of its class in `labels`."""
        return self._new_target[self._dataset.target(index)]
