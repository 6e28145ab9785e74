"""The model repository on disk: `REPOSITORY/NAME/VERSION/`.

A version appears whole or not at all: it is written next to the others under a hidden name, synced,
and then renamed.
"""

import contextlib
import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from convd.artifact.errors import RepositoryError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_VERSION = re.compile(r"[1-9][0-9]{0,17}")
_STAGING_PREFIX = ".staging-"


def check_model_name(name: str) -> None:
    """Refuse a name that is not a valid folder name on every platform.

    Raises:
        RepositoryError: The name is empty, too long or has other characters.
    """
    if _NAME.fullmatch(name) is None:
        raise RepositoryError(
            f"{name[:64]!r} is not a valid model name: use 1 to 64 letters, digits, '_', '.' and "
            "'-', starting with a letter or digit"
        )


class ModelRepository:
    """A tree of models and their versions.

    Args:
        root: The tree's folder. It need not exist until something is published.

    Attributes:
        misnamed: Folders that were seen where models and versions are, and cannot be any.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.misnamed: set[Path] = set()

    def check_readable(self) -> None:
        """Refuse a root that cannot hold models.

        Raises:
            RepositoryError: It does not exist, is not a folder or cannot be read.
        """
        if not self.root.is_dir():
            raise RepositoryError(
                f"the repository {self.root} does not exist: publish a model with "
                f"'convd export ... --repository {self.root}' first"
            )
        self.models()

    def check_whole(self) -> None:
        """Refuse a root that is a part of a repository, besides what `check_readable` refuses.

        Raises:
            RepositoryError: It is the folder of a model or of a version, or cannot be read.
        """
        self.check_readable()
        if _is_version(self.root):
            raise RepositoryError(
                f"{self.root} is one version of a model: give the repository that it lies in, "
                f"{self.root.absolute().parent.parent}"
            )
        folders = _folders(self.root)
        if any(_VERSION.fullmatch(path.name) and _is_version(path) for path in folders):
            raise RepositoryError(
                f"{self.root} is the folder of one model: give the repository that it lies in, "
                f"{self.root.absolute().parent}"
            )

    def models(self) -> list[str]:
        """Names of the models that have a folder, sorted."""
        return sorted(path.name for path in self._named(self.root, _NAME))

    def versions(self, name: str) -> list[int]:
        """Published versions of a model, oldest first; empty if there are none.

        Raises:
            RepositoryError: The name is not a valid model name.
        """
        check_model_name(name)
        return sorted(int(path.name) for path in self._named(self.root / name, _VERSION))

    def version_path(self, name: str, version: int) -> Path:
        """Folder of one version, whether it exists or not.

        Raises:
            RepositoryError: The name is not a valid model name.
        """
        check_model_name(name)
        return self.root / name / str(version)

    def _named(self, parent: Path, name: re.Pattern[str]) -> list[Path]:
        """Folders with a proper name; the others are noted, but for hidden ones."""
        proper = []
        for path in _folders(parent):
            if name.fullmatch(path.name):
                proper.append(path)
            elif not path.name.startswith(".") and path.name != "lost+found":
                self.misnamed.add(path)
        return proper

    @contextlib.contextmanager
    def staging(self, name: str) -> Iterator[Path]:
        """A hidden folder in which to prepare a version; removed at the end unless published.

        Raises:
            RepositoryError: The name is not valid, or the folder cannot be created.
        """
        check_model_name(name)
        model = self.root / name
        with contextlib.ExitStack() as held:
            try:
                model.mkdir(parents=True, exist_ok=True)
                # Another publisher could otherwise remove the new, still unlocked folder.
                with _locked(model):
                    _remove_orphans(model)
                    staging = Path(tempfile.mkdtemp(prefix=_STAGING_PREFIX, dir=model))
                    held.callback(shutil.rmtree, staging, ignore_errors=True)
                    held.enter_context(_locked(staging))
                # mkdtemp creates 0700, but a server under another account must read the version.
                staging.chmod(0o755)
            except OSError as error:
                raise RepositoryError(f"cannot write to {model}: {error.strerror}") from error
            yield staging

    def publish(self, name: str, staging: Path) -> int:
        """Make a prepared folder visible as the next version, atomically.

        Args:
            name: The model.
            staging: A complete artifact in a folder from `staging`.

        Returns:
            Its version.
        """
        _sync_tree(staging)
        while True:
            version = max(self.versions(name), default=0) + 1
            target = self.version_path(name, version)
            try:
                staging.rename(target)
            except OSError:
                if not target.exists():
                    raise
                continue  # another publisher took this version; try the next
            _sync(target.parent)
            return version


def _is_version(folder: Path) -> bool:
    return (folder / "manifest.json").exists() and (folder / "model.onnx").exists()


def _folders(path: Path) -> list[Path]:
    try:
        # scandir knows the type of most entries without another request to the volume.
        with os.scandir(path) as entries:
            return [path / entry.name for entry in entries if entry.is_dir()]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise RepositoryError(f"cannot read {path}: {error.strerror}") from error


@contextlib.contextmanager
def _locked(folder: Path, *, wait: bool = True) -> Iterator[None]:
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


def _remove_orphans(model: Path) -> None:
    """Remove what crashed publishers left behind; a live one holds the lock of its folder."""
    for staging in model.glob(_STAGING_PREFIX + "*"):
        with contextlib.suppress(BlockingIOError, FileNotFoundError), _locked(staging, wait=False):
            shutil.rmtree(staging, ignore_errors=True)


def _sync_tree(root: Path) -> None:
    for folder, _, files in os.walk(root, topdown=False):
        for file in files:
            _sync(Path(folder, file))
        _sync(Path(folder))


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
