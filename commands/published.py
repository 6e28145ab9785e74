"""Published versions by their folder: which repository, model and number a path stands for."""

import os
from pathlib import Path
from typing import NamedTuple

from convd.artifact.bundle import MANIFEST_FILE
from convd.artifact.errors import RepositoryError


class PublishedVersion(NamedTuple):
    """A version in its repository.

    Attributes:
        repository: Folder of the repository.
        model: Name of the model.
        version: Number of the version.
    """

    repository: Path
    model: str
    version: int


def published_version(path: Path) -> PublishedVersion:
    """The version that a folder holds.

    Raises:
        RepositoryError: The folder does not lie where a repository has a version.
    """
    # Not `resolve`: a link may be the place under which the version is served.
    folder = Path(os.path.abspath(path))  # noqa: PTH100
    if not (folder.name.isascii() and folder.name.isdigit() and folder.parent.name):
        raise RepositoryError(
            f"{path} is not REPOSITORY/NAME/VERSION, and a signature is for one model and version"
        )
    return PublishedVersion(folder.parent.parent, folder.parent.name, int(folder.name))


def holds_version(path: Path) -> bool:
    """Whether a folder is that of a version."""
    return (path / MANIFEST_FILE).exists()
