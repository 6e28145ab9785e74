"""The files that a training run writes, each of them whole or not at all."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from safetensors import SafetensorError

from convd.models.errors import OutputError


def check_writable(folder: Path) -> None:
    """Refuse a folder that cannot be written to, before hours are spent on what goes there.

    Raises:
        OutputError: It, or the folder that it would be created in, is a file or read-only.
    """
    nearest = next(each for each in (folder, *folder.absolute().parents) if each.exists())
    if not nearest.is_dir():
        raise OutputError(f"{nearest} is a file: give a folder with --output")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise OutputError(f"{nearest} is read-only: give another folder with --output")


@contextlib.contextmanager
def writing(target: Path) -> Iterator[Path]:
    """Give a path to write to, which becomes `target` when the block ends.

    Raises:
        OutputError: It cannot be written; `target` is as it was, and nothing is left behind.
    """
    partial = target.with_name(target.name + ".partial")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(target)
    except (OSError, SafetensorError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise OutputError(
            f"{target} cannot be written ({reason}): make room, then continue with --resume"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
