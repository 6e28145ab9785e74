"""Data sets by their specification."""

from collections.abc import Sequence

from models.data.dataset import DatasetSplits, ImageDataset
from models.data.digits import load_digits_splits
from models.errors import DataError

__all__ = ["DatasetSplits", "ImageDataset", "load_dataset"]

SPECIFICATIONS = "digits"


def load_dataset(
    spec: str, *, seed: int = 0, classes: Sequence[str] | None = None
) -> DatasetSplits:
    """Load a data set and divide it.

    Args:
        spec: `digits`.
        seed: Which pictures are held out, where the data set's publisher has not divided it.
        classes: Labels of the classes to keep, in their new order; None keeps all.

    Raises:
        DataError: The specification is unknown, or the data cannot be used.
    """
    kind, _, _path = spec.partition(":")
    if kind == "digits":
        splits = load_digits_splits(seed)
    else:
        raise DataError(f"no data set is specified by {spec!r}: use {SPECIFICATIONS}")
    return splits if classes is None else splits.restricted_to(classes)
