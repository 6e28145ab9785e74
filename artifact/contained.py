"""Reads the files of a repository and nothing else.

A person who can write to a repository must not thereby read the server's files. So links are
followed only as far as they stay inside, only regular files are opened, and never more of them than
a bound allows.
"""

import errno
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from convd.artifact.errors import OutsideError

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,127}")
_MAX_DEPTH = 8
_NOWHERE = PurePosixPath()
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
# Without waiting: opening a pipe waits for its writer.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY


def is_plain_path(file: str) -> bool:
    """Whether a relative path has plain names: no leading dots, spaces or control characters."""
    parts = file.split("/")
    return len(parts) <= _MAX_DEPTH and all(_NAME.fullmatch(part) for part in parts)


@dataclass(frozen=True)
class ContainedFolder:
    """A folder whose files are read only if they lie inside a certain folder.

    Links may lead from one place inside to another, as they do in Kubernetes' volumes.

    Attributes:
        path: The folder.
        bound: What nothing may lead out of: the folder itself, or one above it.
        top: The repository, which contains both. It may itself be a link, and may move.
        shown: The folder's name in errors, relative to the repository.
    """

    path: Path
    bound: Path
    top: Path
    shown: PurePosixPath = _NOWHERE

    @classmethod
    def of(cls, path: Path) -> "ContainedFolder":
        """A folder that bounds itself."""
        return cls(path, path, path)

    def folder(self, name: str, *, bounded: bool = False) -> "ContainedFolder":
        """A folder in this one.

        Args:
            name: Its name.
            bounded: Whether nothing in it may lead out of it.

        Raises:
            OutsideError: It leads out, does not exist, or is not a folder.
        """
        path, shown = self.path / name, self.shown / name
        try:
            self._resolve(path, shown)
        except FileNotFoundError:
            raise OutsideError(f"{shown} is missing") from None
        if not path.is_dir():
            raise OutsideError(f"{shown} is not a folder")
        return ContainedFolder(path, path if bounded else self.bound, self.top, shown)

    def read(self, file: PurePosixPath | str, max_bytes: int) -> bytes:
        """Read a file.

        Raises:
            FileNotFoundError: There is no such file.
            OutsideError: It leads out, is not a regular file, is larger than the bound, or cannot
                be read.
        """
        shown = self.shown / file
        try:
            with os.fdopen(_open_beneath(*self._resolve(self.path / file, shown)), "rb") as opened:
                status = os.fstat(opened.fileno())
                _check_regular(status)
                # Some file systems do not know a size before they have been read.
                data = opened.read(max_bytes + 1) if status.st_size <= max_bytes else None
        except FileNotFoundError:
            raise
        except OSError as error:
            raise OutsideError(f"{shown} cannot be read: {error.strerror}") from error
        if data is None or len(data) > max_bytes:
            raise OutsideError(f"{shown} is over the limit of {max_bytes} bytes for this file")
        return data

    def _resolve(self, path: Path, shown: PurePosixPath) -> tuple[Path, Path]:
        """The repository without links, and what a path leads to, relative to it."""
        try:
            top = self.top.resolve(strict=True)
            bound, target = self.bound.resolve(strict=True), path.resolve(strict=True)
        except FileNotFoundError:
            raise
        # A loop of links, a file where a folder should be, or a name with a zero byte.
        except (OSError, RuntimeError, ValueError) as error:
            raise OutsideError(f"{shown} is not a usable path") from error
        if not (bound.is_relative_to(top) and target.is_relative_to(bound)):
            raise OutsideError(
                f"{shown} leads out of the {'repository' if bound == top else 'artifact'}: put the "
                "file itself there instead of a link"
            )
        return top, target.relative_to(top)


def _open_beneath(top: Path, inside: Path) -> int:
    """Open a file without following any link: one that appears now was not there to be resolved."""
    folder = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for part in inside.parts[:-1]:
            below = os.open(part, _FOLDER, dir_fd=folder)
            os.close(folder)
            folder = below
        # Opening a device can already have effects.
        _check_regular(os.stat(inside.name or ".", dir_fd=folder, follow_symlinks=False))
        return os.open(inside.name, _FILE, dir_fd=folder)
    finally:
        os.close(folder)


def _check_regular(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "it is not a regular file")
