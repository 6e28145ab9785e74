"""CIFAR-10: 60,000 colour pictures of 32 x 32 pixels in ten classes.

Krizhevsky, "Learning Multiple Layers of Features from Tiny Images" (2009). The published "python
version" holds pickled dictionaries. A pickle can execute code, so they are read by an unpickler
that accepts NumPy arrays only.
"""

import io
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy._core.multiarray import _reconstruct
from numpy.typing import NDArray

from convd.models.augmentation import Augmentation
from convd.models.data.arrays import ArrayDataset
from convd.models.data.dataset import DatasetSplits
from convd.models.data.files import Report
from convd.models.errors import DataError

LABELS = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)
FOLDER = "cifar-10-batches-py"
ARCHIVE = "cifar-10-python.tar.gz"
TRAIN_FILES = tuple(f"data_batch_{number}" for number in range(1, 6))
HELD_OUT_FILE = "test_batch"

_MAX_FILE_BYTES = 128 * 1024 * 1024


def load_cifar10_splits(path: Path, *, strict: bool, report: Report) -> DatasetSplits:
    """Load the published pictures, with the published test batch held out.

    Args:
        path: The archive `cifar-10-python.tar.gz`, the folder `cifar-10-batches-py`, or a folder
            that holds either.
        strict: Whether a broken training batch is an error; otherwise it is skipped and listed.
        report: Called with a text at the start of each slow step.

    Raises:
        DataError: The data cannot be found, or the test batch, every training batch or, with
            `strict`, one training batch is broken.
    """
    read = _reader(path)
    report("reading pictures")
    parts, broken = [], []
    for name in TRAIN_FILES:
        try:
            parts.append(_parse(read(name), name))
        except DataError as error:
            broken.append(str(error))
    if broken and (strict or not parts):
        raise DataError("; ".join(broken))
    images = np.concatenate([images for images, _ in parts])
    targets = np.concatenate([targets for _, targets in parts])
    held_out_images, held_out_targets = _parse(read(HELD_OUT_FILE), HELD_OUT_FILE)
    return DatasetSplits(
        train=ArrayDataset(LABELS, images, targets.tolist()),
        held_out=ArrayDataset(LABELS, held_out_images, held_out_targets.tolist()),
        held_out_name=f"the published test pictures in {path}",
        channels=3,
        keep_aspect_ratio=False,
        augmentation=Augmentation(shift=0.125, flip=True),
        broken_files=tuple(broken),
    )


def _reader(path: Path) -> Callable[[str], bytes]:
    for folder in (path, path / FOLDER):
        if (folder / HELD_OUT_FILE).is_file():
            return lambda name: _read_file(folder / name)
    archive = path if path.is_file() else path / ARCHIVE
    if not archive.is_file():
        raise DataError(f"{path} does not hold CIFAR-10: give {ARCHIVE} or the folder {FOLDER}")
    try:
        with tarfile.open(archive) as tar:
            members = {
                Path(member.name).name: _read_member(tar, member)
                for member in tar
                if member.isfile() and Path(member.name).name in (*TRAIN_FILES, HELD_OUT_FILE)
            }
    except (OSError, EOFError, tarfile.TarError) as error:
        raise DataError(f"{archive} is damaged ({error}): download it again") from error

    def read(name: str) -> bytes:
        if name not in members:
            raise DataError(f"{archive} has no {name}: download it again")
        return members[name]

    return read


def _read_file(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror}") from error


def _read_member(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    if member.size > _MAX_FILE_BYTES:
        raise DataError(
            f"{member.name} has {member.size:,} bytes, too many for CIFAR-10: download it again"
        )
    stream = tar.extractfile(member)
    return b"" if stream is None else stream.read()


class _ArrayUnpickler(pickle.Unpickler):
    """Loads pickled NumPy arrays and refuses everything else."""

    _ALLOWED = {  # noqa: RUF012
        ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
        ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
    }

    def find_class(self, module_name: str, global_name: str, /) -> object:
        """Return the named object if a NumPy array needs it."""
        try:
            return self._ALLOWED[module_name, global_name]
        except KeyError:
            raise pickle.UnpicklingError(
                f"it asks for {module_name}.{global_name}, which CIFAR-10 does not need"
            ) from None


def _parse(data: bytes, name: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    try:
        batch = _ArrayUnpickler(io.BytesIO(data), encoding="bytes").load()
        rows = np.asarray(batch[b"data"], np.uint8)
        targets = np.asarray(batch[b"labels"], np.int64)
        images = rows.reshape(len(targets), 3, 32, 32).transpose(0, 2, 3, 1)
        if len(targets) == 0 or targets.min() < 0 or targets.max() >= len(LABELS):
            raise ValueError("its labels are not those of ten classes")
    # A damaged pickle makes the unpickler raise nearly anything.
    except Exception as error:
        raise DataError(f"{name} is damaged ({error}): download it again") from error
    return np.ascontiguousarray(images), targets
