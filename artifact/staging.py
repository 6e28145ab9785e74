"""Hidden places where versions and files are prepared, so that half of one is never visible."""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

_PREFIX = ".staging-"


@contextlib.contextmanager
def staging_folder(model: Path) -> Iterator[Path]:
    """A hidden folder in a model's folder; removed at the end unless it was renamed.

    Raises:
        OSError: It cannot be created.
    """
    with contextlib.ExitStack() as held:
        model.mkdir(parents=True, exist_ok=True)
        # Another publisher could otherwise remove the new, still unlocked folder.
        with locked(model):
            _remove_orphans(model)
            staging = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=model))
            held.callback(shutil.rmtree, staging, ignore_errors=True)
            held.enter_context(locked(staging))
        # mkdtemp creates 0700, but a server under another account must read the version.
        staging.chmod(0o755)
        yield staging


@contextlib.contextmanager
def locked(folder: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold the lock of a folder; the system releases it if the holder dies.

    Raises:
        BlockingIOError: Another process holds it, and `wait` is False.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def replacing(target: Path, mode: int = 0o666) -> Iterator[BinaryIO]:
    """A file to write to, which becomes `target` when the block ends, whole and on the disk.

    Args:
        target: The file; it is as it was if the block fails.
        mode: Permissions of the new file, less those that the process gives to none.

    Raises:
        OSError: It cannot be written.
    """
    hidden = target.with_name(f".{target.name}")
    # What a writer that was killed has left; and nothing is written through a link.
    hidden.unlink(missing_ok=True)
    descriptor = os.open(hidden, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        hidden.replace(target)
    except BaseException:
        hidden.unlink(missing_ok=True)
        raise


def _remove_orphans(model: Path) -> None:
    """Remove what crashed publishers left behind; a live one holds the lock of its folder."""
    for staging in model.glob(_PREFIX + "*"):
        with contextlib.suppress(BlockingIOError, FileNotFoundError), locked(staging, wait=False):
            shutil.rmtree(staging, ignore_errors=True)


def sync_tree(root: Path) -> None:
    """Bring a folder and all that is in it to the disk."""
    for folder, _, files in os.walk(root, topdown=False):
        for file in files:
            sync(Path(folder, file))
        sync(Path(folder))


def sync(path: Path) -> None:
    """Bring a file, or the entries of a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
