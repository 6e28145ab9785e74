"""Publishes versions to a model repository in object storage."""

import contextlib
import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from convd.artifact.bundle import MANIFEST_CHECKSUM_FILE, MANIFEST_FILE, MODEL_FILE
from convd.artifact.errors import StorageError
from convd.artifact.object_storage import ObjectStorage
from convd.artifact.repository import (
    CONFIGURATION_FILE,
    MAX_CONFIGURATION_BYTES,
    check_model_name,
    is_version_name,
)
from convd.artifact.signature import MAX_SIGNATURE_BYTES, SIGNATURE_FILE


class RemoteRepository:
    """A tree of models and their versions in object storage, for publishers.

    There is no rename in object storage, so readers take a version for complete once it has the
    checksum of its manifest, which is written last. The network is written first, and only if no
    other publisher has written one: that takes the version's number.

    Args:
        storage: Where.
    """

    def __init__(self, storage: ObjectStorage) -> None:
        self._storage = storage

    def versions(self, name: str) -> list[int]:
        """Numbers that are taken, complete or not, oldest first.

        Raises:
            RepositoryError: The name is not a valid model name.
            StorageError: Storage cannot be read.
        """
        check_model_name(name)
        parts = [path.split("/") for path in self._storage.objects() if path.startswith(f"{name}/")]
        return sorted({int(part[1]) for part in parts if is_version_name(part[1])})

    def version_path(self, name: str, version: int) -> str:
        """Where a version is, or would be."""
        return f"{self._storage.url}/{name}/{version}"

    def read_configuration(self, name: str) -> bytes | None:
        """Read a model's `config.yaml`; None if there is none.

        Raises:
            StorageError: It cannot be read, or is too large.
        """
        path = f"{name}/{CONFIGURATION_FILE}"
        if path not in self._storage.objects():
            return None
        return self._storage.read(path, MAX_CONFIGURATION_BYTES)

    @contextlib.contextmanager
    def signed_files(self, name: str) -> Iterator[Path]:
        """A local repository with the signatures and the `config.yaml` of a model.

        Raises:
            StorageError: They cannot be read, or are too large.
        """
        signed = rf"([1-9]\d{{0,17}}/{SIGNATURE_FILE}|{CONFIGURATION_FILE})"
        wanted = re.compile(f"{re.escape(name)}/{signed}")
        with tempfile.TemporaryDirectory(prefix="convd-publish-") as folder:
            for path in filter(wanted.fullmatch, self._storage.objects()):
                file = Path(folder, path)
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(self._storage.read(path, MAX_SIGNATURE_BYTES))
            yield Path(folder)

    @contextlib.contextmanager
    def staging(self, name: str) -> Iterator[Path]:
        """A local folder in which to prepare a version; removed at the end.

        Raises:
            RepositoryError: The name is not valid.
            StorageError: Storage cannot be read, so that preparing would be in vain.
        """
        self.versions(name)
        with tempfile.TemporaryDirectory(prefix="convd-publish-") as folder:
            yield Path(folder)

    def publish(
        self, name: str, staging: Path, finish: Callable[[int], None] = lambda _version: None
    ) -> int:
        """Make a prepared folder visible as the next version: whole, or not at all.

        Args:
            name: The model.
            staging: A complete artifact.
            finish: Completes the folder once its version is known.

        Returns:
            Its version.

        Raises:
            StorageError: Storage cannot be written; what was written is removed if possible.
        """
        version = max(self.versions(name), default=0) + 1
        while not self._storage.put_new(staging / MODEL_FILE, f"{name}/{version}/{MODEL_FILE}"):
            version += 1
        written = [f"{name}/{version}/{MODEL_FILE}"]
        try:
            finish(version)
            for file in _in_order(staging):
                self._storage.put(staging / file, f"{name}/{version}/{file}")
                written.append(f"{name}/{version}/{file}")
        except BaseException:
            # The checksum goes first, so that no reader takes the rest for a whole version.
            with contextlib.suppress(StorageError):
                self._storage.remove(written[::-1])
            raise
        return version


def _in_order(staging: Path) -> list[str]:
    """All files but the network; the manifest and then its checksum are last."""
    last = [str(MANIFEST_FILE), str(MANIFEST_CHECKSUM_FILE)]
    files = sorted(
        file.relative_to(staging).as_posix() for file in staging.rglob("*") if file.is_file()
    )
    return [file for file in files if file not in (*last, str(MODEL_FILE))] + last
