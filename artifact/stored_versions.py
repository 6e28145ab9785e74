"""The models and versions of a repository in object storage."""

import re
from dataclasses import dataclass

from convd.artifact.bundle import MANIFEST_CHECKSUM_FILE, MANIFEST_FILE, sha256
from convd.artifact.errors import StorageError
from convd.artifact.object_storage import ObjectStorage, StoredObject
from convd.artifact.repository import CONFIGURATION_FILE, is_model_name, is_version_name

_VERSION_PATH = re.compile(r"([^/]+)/([^/]+)/(.+)")


@dataclass(frozen=True)
class StoredVersions:
    """What a repository in object storage holds.

    Attributes:
        versions: Complete versions, by model and number: their files, by path within the version.
        configurations: Each model's `config.yaml`.
    """

    versions: dict[tuple[str, int], dict[str, StoredObject]]
    configurations: dict[str, StoredObject]


def published_versions(storage: ObjectStorage) -> dict[str, list[int]]:
    """The complete versions of each model in object storage, oldest first.

    Raises:
        StorageError: It cannot be reached, or holds no models.
    """
    versions: dict[str, list[int]] = {}
    for name, version in sorted(read_listing(storage).versions):
        versions.setdefault(name, []).append(version)
    return versions


def read_listing(storage: ObjectStorage) -> StoredVersions:
    """List a repository.

    Raises:
        StorageError: It cannot be reached, or holds no models.
    """
    versions: dict[tuple[str, int], dict[str, StoredObject]] = {}
    configurations: dict[str, StoredObject] = {}
    objects = storage.objects()
    for path, stored in objects.items():
        name, _, rest = path.partition("/")
        if rest == CONFIGURATION_FILE and is_model_name(name):
            configurations[name] = stored
        found = _VERSION_PATH.fullmatch(path)
        if found and is_model_name(found[1]) and is_version_name(found[2]):
            versions.setdefault((found[1], int(found[2])), {})[found[3]] = stored
    # The checksum of the manifest is what is written last.
    complete = {
        key: files
        for key, files in versions.items()
        if {str(MANIFEST_FILE), str(MANIFEST_CHECKSUM_FILE)} <= files.keys()
    }
    if not complete:
        if any(re.fullmatch(rf"(\d+/)?{MANIFEST_FILE}", path) for path in objects):
            raise StorageError(
                f"{storage.url} is a part of a repository: give the place that holds the models"
            )
        raise StorageError(
            f"{storage.url} holds no models, so what was copied before stays: publish one with "
            f"'convd export ... --repository {storage.url}', or check the place"
        )
    names = {name for name, _ in complete}
    return StoredVersions(
        complete, {name: one for name, one in configurations.items() if name in names}
    )


def digest(objects: dict[str, StoredObject]) -> str:
    """What differs once a file of a version was replaced, in hexadecimal."""
    lines = [f"{path} {stored.size_bytes} {stored.tag}" for path, stored in sorted(objects.items())]
    return sha256("\n".join(lines).encode())
