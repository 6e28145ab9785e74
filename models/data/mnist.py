"""MNIST and the data sets that share its format, such as Fashion-MNIST.

The IDX format: two zero bytes, a byte for the type (8 is uint8), a byte for the number of
dimensions, each dimension as a big-endian 32-bit integer, then the values. Source: LeCun, Cortes
and Burges, "The MNIST database of handwritten digits".
"""

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from convd.models.augmentation import Augmentation
from convd.models.data.arrays import ArrayDataset
from convd.models.data.dataset import DatasetSplits
from convd.models.data.files import Report
from convd.models.errors import DataError

LABELS = tuple("0123456789")
FASHION_LABELS = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)

_UINT8 = 8


def load_mnist_splits(root: Path, *, report: Report) -> DatasetSplits:
    """Load the four published files, gzipped or not, with the published test pictures held out.

    Classes are Fashion-MNIST's garments if the path contains `fashion`, and numbers otherwise.

    Args:
        root: The folder that holds them, or holds the folder `MNIST/raw` or `FashionMNIST/raw`.
        report: Called with a text at the start of each slow step.

    Raises:
        DataError: A file is missing, damaged, or does not fit the others.
    """
    folders = [root, root / "raw", root / "MNIST" / "raw", root / "FashionMNIST" / "raw"]
    folder = next((each for each in folders if _find(each, "train-images") is not None), None)
    if folder is None:
        raise DataError(
            f"{root} does not hold MNIST: it has neither train-images-idx3-ubyte nor "
            "train-images-idx3-ubyte.gz"
        )
    fashion = "fashion" in str(folder.resolve()).lower()
    report("reading pictures")
    train = _part(folder, "train", fashion=fashion)
    return DatasetSplits(
        train=train,
        held_out=_part(folder, "t10k", fashion=fashion),
        held_out_name=f"the published test pictures in {root}",
        channels=1,
        keep_aspect_ratio=False,
        augmentation=Augmentation(shift=0.08, flip=True)
        if fashion
        else Augmentation(rotation_degrees=10, shift=0.08, scale=0.1),
    )


def _part(folder: Path, part: str, *, fashion: bool) -> ArrayDataset:
    images = read_idx(_found(folder, f"{part}-images"))
    targets = read_idx(_found(folder, f"{part}-labels"))
    if images.ndim != 3 or targets.ndim != 1 or len(images) != len(targets) or len(images) == 0:
        raise DataError(
            f"{folder}: the {part} files hold pictures of shape {images.shape} and labels of "
            f"shape {targets.shape}, which do not belong together"
        )
    named = FASHION_LABELS if fashion else LABELS
    # EMNIST has more than ten classes, and its files do not name them.
    labels = named if targets.max() < 10 else [str(each) for each in range(targets.max() + 1)]
    return ArrayDataset(labels, images, targets.tolist())


def read_idx(file: Path) -> NDArray[np.uint8]:
    """Read an IDX file of uint8 values.

    Raises:
        DataError: It is damaged, or has another format or type.
    """
    try:
        data = file.read_bytes()
        if file.suffix == ".gz":
            data = gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{file} cannot be read ({error}): download it again") from error
    if len(data) < 4 or data[:2] != b"\0\0":
        raise DataError(f"{file} is not an IDX file: download it again")
    if data[2] != _UINT8:
        raise DataError(f"{file} holds values of type {data[2]}, and only uint8 (8) is read")
    header = 4 + 4 * data[3]
    if len(data) < header:
        raise DataError(f"{file} ends within its header: download it again")
    shape = struct.unpack(f">{data[3]}I", data[4:header])
    if len(data) - header != math.prod(shape):
        raise DataError(
            f"{file} promises {math.prod(shape):,} values and holds {len(data) - header:,}: "
            "download it again"
        )
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape)


def _found(folder: Path, start: str) -> Path:
    file = _find(folder, start)
    if file is None:
        raise DataError(f"{folder} has no file {start}-idx*-ubyte, gzipped or not: download it")
    return file


def _find(folder: Path, start: str) -> Path | None:
    # Some copies have a dot in place of the last hyphen.
    patterns = (f"{start}[-.]idx?-ubyte", f"{start}[-.]idx?-ubyte.gz")
    return next((file for each in patterns for file in sorted(folder.glob(each))), None)
