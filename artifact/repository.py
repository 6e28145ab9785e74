"""The model repository on disk: `REPOSITORY/NAME/VERSION/`.

A version appears whole or not at all: it is written next to the others under a hidden name, synced,
and then renamed.
"""

import contextlib
import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from convd.artifact.bundle import Artifact
from convd.artifact.contained import ContainedFolder
from convd.artifact.errors import OutsideError, RepositoryError
from convd.artifact.staging import staging_folder, sync, sync_tree

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_VERSION = re.compile(r"[1-9][0-9]{0,17}")

CONFIGURATION_FILE = "config.yaml"
MAX_CONFIGURATION_BYTES = 64 * 1024
"""Largest `config.yaml`: PyYAML takes ten seconds for a mebibyte, minutes for a number."""


def is_model_name(name: str) -> bool:
    """Whether a name is a valid folder name on every platform."""
    return _NAME.fullmatch(name) is not None


def check_model_name(name: str) -> None:
    """Refuse a name that is not a valid folder name on every platform.

    Raises:
        RepositoryError: The name is empty, too long or has other characters.
    """
    if not is_model_name(name):
        raise RepositoryError(
            f"{name[:64]!r} is not a valid model name: use 1 to 64 letters, digits, '_', '.' and "
            "'-', starting with a letter or digit"
        )


class ModelRepository:
    """A tree of models and their versions.

    Args:
        root: The tree's folder. It need not exist until something is published.
        chosen: The models to see, each with the only version to see of it, or None for all; None
            for every model.

    Attributes:
        refused: Folders that are neither models nor versions although they lie where those do, each
            with the reason.
    """

    def __init__(self, root: Path, chosen: Mapping[str, int | None] | None = None) -> None:
        self.root = root
        self.chosen = chosen
        self.refused: dict[Path, str] = {}

    def check_readable(self) -> None:
        """Refuse a root that cannot hold models.

        Raises:
            RepositoryError: It does not exist, is not a folder or cannot be read.
        """
        try:
            exists = self.root.is_dir()
        except OSError as error:
            raise RepositoryError(f"cannot read {self.root}: {error.strerror}") from error
        if not exists:
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
        if is_version(self.root):
            raise RepositoryError(
                f"{self.root} is one version of a model: give the repository that it lies in, "
                f"{self.root.absolute().parent.parent}"
            )
        folders = _folders(self.root)
        if any(is_version_name(path.name) and is_version(path) for path, _ in folders):
            raise RepositoryError(
                f"{self.root} is the folder of one model: give the repository that it lies in, "
                f"{self.root.absolute().parent}"
            )

    def models(self) -> list[str]:
        """Names of the models that have a folder, sorted."""
        reason = "a model's name has letters, digits, '_', '.' and '-' only"
        names = sorted(path.name for path in self._named(self.root, _NAME, reason))
        return names if self.chosen is None else [name for name in names if name in self.chosen]

    def versions(self, name: str) -> list[int]:
        """Published versions of a model, oldest first; empty if there are none.

        Raises:
            RepositoryError: The name is not a valid model name, or the model's folder cannot be
                read or leads out of the repository.
        """
        check_model_name(name)
        model = self.root / name
        if model.is_symlink():
            try:
                self._top.folder(name)
            except OutsideError as error:
                raise RepositoryError(error.public) from error
        reason = "a version's name is a whole number, such as 7, without zeros before it"
        versions = sorted(int(path.name) for path in self._named(model, _VERSION, reason))
        only = None if self.chosen is None else self.chosen.get(name)
        return versions if only is None else [version for version in versions if version == only]

    def model_folder(self, name: str) -> ContainedFolder:
        """Folder of a model, in which files may be links to others in the repository.

        Raises:
            RepositoryError: The name is not a valid model name.
            OutsideError: The folder is missing or leads out of the repository.
        """
        check_model_name(name)
        return self._top.folder(name)

    def version_folder(self, name: str, version: int) -> ContainedFolder:
        """Folder of one version, whose files may not lead out of it.

        Raises:
            RepositoryError: The name is not a valid model name.
            OutsideError: The folder is missing or leads out of the repository.
        """
        return self.model_folder(name).folder(str(version), bounded=True)

    def version_path(self, name: str, version: int) -> Path:
        """Folder of one version, whether it exists or not.

        Raises:
            RepositoryError: The name is not a valid model name.
        """
        check_model_name(name)
        return self.root / name / str(version)

    @property
    def _top(self) -> ContainedFolder:
        return ContainedFolder.of(self.root)

    def _named(self, parent: Path, name: re.Pattern[str], otherwise: str) -> list[Path]:
        """Folders with a proper name inside the repository; the others are noted if not hidden."""
        proper = []
        for path, is_link in _folders(parent):
            if not name.fullmatch(path.name):
                if not path.name.startswith(".") and path.name != "lost+found":
                    self.refused[path] = otherwise
                continue
            if is_link and not self._contains(path):
                self.refused[path] = "it leads out of the repository"
                continue
            proper.append(path)
        return proper

    def _contains(self, path: Path) -> bool:
        try:
            return path.resolve(strict=True).is_relative_to(self.root.resolve(strict=True))
        except (OSError, RuntimeError):
            return False

    @contextlib.contextmanager
    def staging(self, name: str) -> Iterator[Path]:
        """A hidden folder in which to prepare a version; removed at the end unless published.

        Raises:
            RepositoryError: The name is not valid, or the folder cannot be created.
        """
        # Nothing is written through a link that leads out.
        self.versions(name)
        model = self.root / name
        with contextlib.ExitStack() as held:
            try:
                staging = held.enter_context(staging_folder(model))
            except OSError as error:
                raise RepositoryError(f"cannot write to {model}: {error.strerror}") from error
            yield staging

    def publish(
        self, name: str, staging: Path, finish: Callable[[int], None] = lambda _version: None
    ) -> int:
        """Make a prepared folder visible as the next version, atomically.

        Args:
            name: The model.
            staging: A complete artifact in a folder from `staging`.
            finish: Completes the folder once its version is known; called again if another
                publisher takes that one.

        Returns:
            Its version.
        """
        while True:
            version = max(self.versions(name), default=0) + 1
            target = self.version_path(name, version)
            finish(version)
            sync_tree(staging)
            try:
                staging.rename(target)
            except OSError:
                if not target.exists():
                    raise
                continue  # another publisher took this version; try the next
            sync(target.parent)
            return version

    def open_version(self, name: str, version: int) -> Artifact:
        """Open one version.

        Raises:
            InvalidArtifactError: It is incomplete, altered or of an unknown schema.
            OutsideError: Its folder or one of its files leads out of the repository.
        """
        return Artifact.open(self.version_folder(name, version))

    @contextlib.contextmanager
    def signed_files(self, name: str) -> Iterator[Path]:  # noqa: ARG002
        """A repository with at least the signatures and the `config.yaml` of a model: this one."""
        yield self.root

    def read_configuration(self, name: str) -> bytes | None:
        """Read a model's `config.yaml`; None if there is none.

        Raises:
            OutsideError: It leads out of the repository, is not a regular file, or is too large.
        """
        check_model_name(name)
        if not (self.root / name).exists():
            return None
        try:
            return self.model_folder(name).read(CONFIGURATION_FILE, MAX_CONFIGURATION_BYTES)
        except FileNotFoundError:
            return None


def is_version_name(name: str) -> bool:
    """Whether a version's folder may be called so: a whole number without zeros before it."""
    return _VERSION.fullmatch(name) is not None


def is_version(folder: Path) -> bool:
    """Whether a folder looks like the artifact of a version, whatever its name."""
    return (folder / "manifest.json").exists() and (folder / "model.onnx").exists()


def _folders(path: Path) -> list[tuple[Path, bool]]:
    """The folders in a folder, and whether each is a link."""
    try:
        # scandir knows the type of most entries without another request to the volume.
        with os.scandir(path) as entries:
            return [(path / one.name, one.is_symlink()) for one in entries if one.is_dir()]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise RepositoryError(f"cannot read {path}: {error.strerror}") from error
