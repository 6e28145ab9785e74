"""What a path names: a model repository, one of its models, or one version of it."""

from dataclasses import dataclass
from pathlib import Path

from convd.artifact.errors import RepositoryError
from convd.artifact.repository import ModelRepository, is_version, is_version_name


@dataclass(frozen=True)
class Location:
    """A place in a model repository.

    Attributes:
        repository: The repository's folder.
        model: The model; None for the whole repository.
        version: Its version; None for all of them.
    """

    repository: Path
    model: str | None = None
    version: int | None = None


def locate(path: Path) -> Location:
    """Find out what a path names.

    Args:
        path: A repository, the folder of a model, or the folder of a version.

    Raises:
        RepositoryError: It does not exist, cannot be read, or is the artifact of a version outside
            a repository.
    """
    try:
        is_folder = path.is_dir()
    except OSError as error:
        raise RepositoryError(f"cannot read {path}: {error.strerror}") from error
    if not is_folder:
        what = "is not a folder" if path.exists() else "does not exist"
        raise RepositoryError(
            f"{path} {what}: give a model repository, the folder of a model in it, or the folder "
            "of a version"
        )
    whole = path.absolute()
    if is_version(whole):
        if not is_version_name(whole.name):
            raise RepositoryError(
                f"{path} is the artifact of one version, and lies outside a repository: copy it to "
                f"REPOSITORY/{whole.name}/1"
            )
        ModelRepository(whole.parent.parent).versions(whole.parent.name)
        return Location(whole.parent.parent, whole.parent.name, int(whole.name))
    versions = [one for one in whole.iterdir() if is_version_name(one.name)]
    if versions and any(is_version(one) for one in versions):
        ModelRepository(whole.parent).versions(whole.name)
        return Location(whole.parent, whole.name)
    return Location(path)
