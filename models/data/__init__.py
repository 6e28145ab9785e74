"""Data sets by their specification."""

from collections.abc import Sequence
from pathlib import Path

from convd.models.data.cifar10 import load_cifar10_splits
from convd.models.data.dataset import DatasetSplits, ImageDataset
from convd.models.data.digits import load_digits_splits
from convd.models.data.drawn import load_drawn_splits
from convd.models.data.files import Report
from convd.models.data.folder import load_folder_splits
from convd.models.data.mnist import load_mnist_splits
from convd.models.errors import DataError

__all__ = ["DatasetSplits", "ImageDataset", "load_dataset"]

SPECIFICATIONS = "digits, drawn:, folder:PATH, cifar10:PATH or mnist:PATH"


def load_dataset(
    spec: str,
    *,
    seed: int = 0,
    classes: Sequence[str] | None = None,
    strict: bool = False,
    report: Report = lambda _text: None,
) -> DatasetSplits:
    """Load a data set and divide it.

    Args:
        spec: `digits`, `drawn:`, `folder:PATH`, `cifar10:PATH` or `mnist:PATH`.
        seed: Selects the held-out pictures of a data set that is not published in parts.
        classes: Labels of the classes to keep, in their new order; None keeps all.
        strict: Whether a broken file is an error; otherwise it is skipped and listed.
        report: Called with a text at the start of each slow step.

    Raises:
        DataError: The specification is unknown, or the data cannot be used.
    """
    kind, _, path = spec.partition(":")
    if kind in ("folder", "cifar10", "mnist") and not path:
        raise DataError(f"{spec!r} has no path: write {kind}:PATH")
    root = Path(path).expanduser()
    if spec == "digits":
        splits = load_digits_splits(seed)
    elif spec in ("drawn", "drawn:"):
        splits = load_drawn_splits(seed)
    elif kind == "folder":
        splits = load_folder_splits(root, seed=seed, strict=strict, report=report)
    elif kind == "cifar10":
        splits = load_cifar10_splits(root, strict=strict, report=report)
    elif kind == "mnist":
        splits = load_mnist_splits(root, report=report)
    else:
        raise DataError(f"unknown data set {spec!r}: use {SPECIFICATIONS}")
    return splits if classes is None else splits.restricted_to(classes)
