"""A local copy of a model repository in object storage, kept in step with it.

Whatever reads a repository reads the copy, and need not know. A version appears in it by one
rename, once every file that its manifest lists is here and verified.
"""

import contextlib
import json
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from convd.artifact.bundle import (
    MANIFEST_CHECKSUM_FILE,
    MANIFEST_FILE,
    MAX_FILE_BYTES,
    MAX_MANIFEST_BYTES,
    MAX_MODEL_BYTES,
    MODEL_FILE,
    Artifact,
)
from convd.artifact.errors import (
    ArtifactError,
    InvalidArtifactError,
    RepositoryError,
    StorageError,
    public_reason,
)
from convd.artifact.object_storage import ObjectStorage, StoredObject
from convd.artifact.repository import (
    CONFIGURATION_FILE,
    MAX_CONFIGURATION_BYTES,
    ModelRepository,
)
from convd.artifact.signature import MAX_SIGNATURE_BYTES, SIGNATURE_FILE
from convd.artifact.staging import locked, replacing, staging_folder, sync_tree
from convd.artifact.stored_versions import StoredVersions, digest, read_listing

_ORIGIN = ".origin"
_LAST_LOOK = ".last-look"
_LONGEST_PAUSE_SECONDS = 300.0


class StoppedError(ArtifactError):
    """The copying was interrupted because its result is no longer wanted."""


@dataclass
class _Failure:
    """A version that could not be copied: what it was then, why, and when to try again."""

    origin: str
    reason: str
    pause_seconds: float
    next_try: float


class Mirror:
    """Copies a repository from object storage into a folder.

    Several processes may share the folder: one copies at a time, and what one has just seen the
    others do not ask for again.

    Args:
        storage: Opens the object storage; called at the first look, in the process that looks.
        url: The repository's place, as it is shown.
        root: The folder; made if it does not exist.
        fresh_seconds: How long what another process saw counts.
    """

    def __init__(
        self,
        storage: Callable[[], ObjectStorage],
        url: str,
        root: Path,
        *,
        fresh_seconds: float = 0.0,
    ) -> None:
        self.url = url
        self.root = root
        self._open_storage = storage
        self._storage: ObjectStorage | None = None
        self._fresh_seconds = fresh_seconds
        self._failures: dict[tuple[str, int], _Failure] = {}
        self._configurations: dict[str, str] = {}
        try:
            root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RepositoryError(
                f"cannot write to {root}: {error.strerror}; choose another --repository-cache"
            ) from error

    def sync(self, stopped: Callable[[], bool] = lambda: False, *, now: bool = False) -> None:
        """Bring the folder in step with object storage.

        Args:
            stopped: Asked while copying; the copying ends soon after it says True.
            now: Look even if another process has just looked.

        Raises:
            ArtifactError: Storage cannot be reached, holds no models, or one of its versions cannot
                be copied. What is in the folder stays, and what could be copied is there.
        """
        with self._turn(stopped):
            last_look = self.root / _LAST_LOOK
            if not now and _age_seconds(last_look) < self._fresh_seconds:
                problem = json.loads(last_look.read_text() or "{}")
            else:
                problem = self._look(stopped)
                last_look.write_text(json.dumps(problem))
        if problem:
            raise RepositoryError(problem["public"], detail=problem["detail"])

    @contextlib.contextmanager
    def _turn(self, stopped: Callable[[], bool]) -> Iterator[None]:
        with contextlib.ExitStack() as held:
            while True:
                try:
                    held.enter_context(locked(self.root, wait=False))
                    break
                except BlockingIOError:
                    if stopped():
                        raise StoppedError("the server is stopping") from None
                    time.sleep(0.1)
            yield

    def _look(self, stopped: Callable[[], bool]) -> dict[str, str]:
        """Look once; what is wrong, as an `ArtifactError` has it, or nothing."""
        try:
            if self._storage is None:
                self._storage = self._open_storage()
            listing = read_listing(self._storage)
            self._copy_configurations(self._storage, listing)
            for (name, version), objects in sorted(
                listing.versions.items(), key=lambda one: (one[0][0], -one[0][1])
            ):
                self._keep_version(self._storage, name, version, objects, stopped)
        except StorageError as error:
            return {"public": error.public, "detail": error.detail}
        self._remove_what_is_gone(listing)
        reasons = "; ".join(failure.reason for failure in self._failures.values())
        return {"public": reasons, "detail": ""} if reasons else {}

    def _keep_version(
        self,
        storage: ObjectStorage,
        name: str,
        version: int,
        objects: dict[str, StoredObject],
        stopped: Callable[[], bool],
    ) -> None:
        origin = digest(objects)
        target = self.root / name / str(version)
        key = (name, version)
        if _read(target / _ORIGIN) == origin:
            self._failures.pop(key, None)
            return
        before = self._failures.get(key)
        if before and before.origin == origin and time.monotonic() < before.next_try:
            return
        try:
            self._copy_version(storage, target, objects, origin, stopped)
            self._failures.pop(key, None)
        except (ArtifactError, OSError) as error:
            if isinstance(error, StorageError | StoppedError):
                raise
            pause_seconds = 1.0
            if before and before.origin == origin:
                pause_seconds = min(2 * before.pause_seconds, _LONGEST_PAUSE_SECONDS)
            self._failures[key] = _Failure(
                origin,
                f"{name} version {version} is not copied: {public_reason(error)}",
                pause_seconds,
                time.monotonic() + pause_seconds,
            )

    def _copy_version(
        self,
        storage: ObjectStorage,
        target: Path,
        objects: dict[str, StoredObject],
        origin: str,
        stopped: Callable[[], bool],
    ) -> None:
        place = f"{target.parent.name}/{target.name}"

        def copy(file: PurePosixPath, max_bytes: int) -> None:
            listed = objects.get(str(file))
            if listed is None:
                raise InvalidArtifactError(f"{file} is missing")
            if listed.size_bytes > max_bytes:
                raise InvalidArtifactError(f"{file} is over the limit of {max_bytes} bytes")
            (staging / file).parent.mkdir(parents=True, exist_ok=True)
            with (staging / file).open("wb") as opened:
                for chunk in storage.chunks(f"{place}/{file}", max_bytes):
                    if stopped():
                        raise StoppedError("the server is stopping")
                    opened.write(chunk)

        with staging_folder(target.parent) as staging:
            copy(MANIFEST_FILE, MAX_MANIFEST_BYTES)
            copy(MANIFEST_CHECKSUM_FILE, MAX_MANIFEST_BYTES)
            # Names are checked before any of them is written.
            artifact = Artifact.open(staging)
            for file in map(PurePosixPath, artifact.manifest.files):
                copy(file, MAX_MODEL_BYTES if file == MODEL_FILE else MAX_FILE_BYTES)
            artifact.check_all_files()
            if str(SIGNATURE_FILE) in objects:
                copy(SIGNATURE_FILE, MAX_SIGNATURE_BYTES)
            (staging / _ORIGIN).write_text(origin)
            sync_tree(staging)
            _remove(target)
            staging.rename(target)

    def _copy_configurations(self, storage: ObjectStorage, listing: StoredVersions) -> None:
        for name, listed in listing.configurations.items():
            target = self.root / name / CONFIGURATION_FILE
            if self._configurations.get(name) == listed.tag and target.exists():
                continue
            # One byte more than is allowed is refused where it is read, with the reason.
            data = b"".join(
                storage.chunks(f"{name}/{CONFIGURATION_FILE}", MAX_CONFIGURATION_BYTES + 1)
                if listed.size_bytes <= MAX_CONFIGURATION_BYTES
                else [b" " * (MAX_CONFIGURATION_BYTES + 1)]
            )
            target.parent.mkdir(parents=True, exist_ok=True)
            with replacing(target) as file:
                file.write(data)
            self._configurations[name] = listed.tag

    def _remove_what_is_gone(self, listing: StoredVersions) -> None:
        here = ModelRepository(self.root)
        names = {name for name, _ in listing.versions}
        for name in here.models():
            for version in here.versions(name):
                if (name, version) not in listing.versions:
                    _remove(here.version_path(name, version))
            if name not in listing.configurations:
                (self.root / name / CONFIGURATION_FILE).unlink(missing_ok=True)
            if name not in names:
                shutil.rmtree(self.root / name, ignore_errors=True)
        for key in set(self._failures) - set(listing.versions):
            del self._failures[key]


def _read(file: Path) -> str:
    try:
        return file.read_text()
    except FileNotFoundError:
        return ""


def _age_seconds(file: Path) -> float:
    """How old a file is; infinite if there is none, or if the clock was set back."""
    try:
        age_seconds = time.time() - file.stat().st_mtime
    except FileNotFoundError:
        return float("inf")
    return age_seconds if age_seconds >= 0 else float("inf")


def _remove(version: Path) -> None:
    """Remove a version so that no part of it is seen without the rest."""
    if version.exists():
        with staging_folder(version.parent) as hidden:
            version.rename(hidden / version.name)
