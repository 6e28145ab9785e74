"""A model repository in which only what is signed counts.

Each version carries a signature that names it ([26](../docs/decisions/0026-signatures.md)). The one
that was made last says what the model's `config.yaml` must be: who signs sees it as it is then.
"""

import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from convd.artifact.bundle import Artifact
from convd.artifact.errors import ArtifactError, InvalidArtifactError
from convd.artifact.remote_repository import RemoteRepository
from convd.artifact.repository import CONFIGURATION_FILE, ModelRepository
from convd.artifact.signature import SignatureRule, configuration_digest
from convd.artifact.signing_keys import VerificationKey
from convd.artifact.statement import SignedVersion, Statement

_NEVER = datetime.min.replace(tzinfo=UTC)


class _Configuration(NamedTuple):
    """The `config.yaml` that was accepted last: its digest, and when that was signed."""

    sha256: str | None
    signed_at: datetime


class SignedRepository(ModelRepository):
    """Opens versions and reads configurations with the signatures that they must carry.

    As long as the process lives, it accepts no signature that is older than the one that it has
    accepted before in the same place.

    Args:
        root: The tree's folder.
        rule: Which signatures count.
        chosen: As of `ModelRepository`.
    """

    def __init__(
        self, root: Path, rule: SignatureRule, chosen: Mapping[str, int | None] | None = None
    ) -> None:
        super().__init__(root, chosen)
        self._rule = rule
        # Several models are loaded side by side.
        self._lock = threading.Lock()
        self._versions: dict[tuple[str, int], datetime] = {}
        self._configurations: dict[str, _Configuration] = {}

    def open_version(self, name: str, version: int) -> Artifact:
        """Open one version.

        Raises:
            InvalidArtifactError: It is not signed as this version of this model, incomplete,
                altered, or signed for another `config.yaml` than the one in force.
            OutsideError: Its folder or one of its files leads out of the repository.
        """
        statement = self._statement(name, version)
        artifact = Artifact.open(self.version_folder(name, version), signed=statement)
        about = statement.about
        with self._lock:
            in_force = self._configurations.get(name, _Configuration(None, _NEVER))
            if about.signed_at > in_force.signed_at:
                _check_configuration(about, in_force.sha256)
            self._versions[name, version] = about.signed_at
        return artifact

    def read_configuration(self, name: str) -> bytes | None:
        """Read a model's `config.yaml`; None if there is none.

        Raises:
            InvalidArtifactError: The version that was signed last was signed for another one.
            OutsideError: It leads out of the repository, is not a regular file, or is too large.
        """
        data = super().read_configuration(name)
        digest = configuration_digest(data)
        latest = self._signed_last(name)
        with self._lock:
            if latest is None:
                if data is not None:
                    raise InvalidArtifactError(
                        f"no version of {name} has a signature that counts, so nothing says what "
                        f"{CONFIGURATION_FILE} must be: sign them with 'convd sign'"
                    )
                return None
            before = self._configurations.get(name, _Configuration(None, _NEVER))
            if latest.signed_at < before.signed_at:
                raise InvalidArtifactError(
                    f"{CONFIGURATION_FILE} was signed before the one that was in force: sign the "
                    "model again with 'convd sign'"
                )
            _check_configuration(latest, digest)
            self._configurations[name] = _Configuration(digest, latest.signed_at)
        return data

    def _signed_last(self, name: str) -> SignedVersion | None:
        """What the version says that was signed last, among those whose signature counts."""
        counting = []
        for version in self.versions(name):
            try:
                counting.append(self._statement(name, version).about)
            # Such a version is refused when it is opened.
            except ArtifactError:
                continue
        return max(counting, key=lambda about: about.signed_at, default=None)

    def _statement(self, name: str, version: int) -> Statement:
        statement = self._rule.read(self.version_folder(name, version), name, version)
        with self._lock:
            before = self._versions.get((name, version), _NEVER)
        if statement.about.signed_at < before:
            raise InvalidArtifactError(
                "the version was signed before the one that was served under its number: sign it "
                "again with 'convd sign' if it is to be served"
            )
        return statement


def configuration_to_publish(
    repository: ModelRepository | RemoteRepository, name: str, key: VerificationKey
) -> bytes | None:
    """The `config.yaml` that a publisher may sign along with a new version, unread.

    Whoever can write to a repository must not get a `config.yaml` signed by waiting for the next
    version. So it is the one that was signed before, or belongs to a model without versions.

    Raises:
        InvalidArtifactError: It is another one than was signed, or nothing says what it must be.
        OutsideError: It cannot be read.
    """
    if not repository.versions(name):
        return repository.read_configuration(name)
    with repository.signed_files(name) as root:
        return SignedRepository(root, SignatureRule((key,))).read_configuration(name)


def _check_configuration(about: SignedVersion, sha256: str | None) -> None:
    """Refuse a `config.yaml` that is not the one that was signed."""
    signed = about.configuration_sha256
    if signed == sha256:
        return
    if sha256 is None:
        what = f"{CONFIGURATION_FILE} is missing, although version {about.version} was signed "
        what += "with one"
    elif signed is None:
        what = f"{CONFIGURATION_FILE} was added after version {about.version} was signed"
    else:
        what = f"{CONFIGURATION_FILE} was altered after version {about.version} was signed"
    raise InvalidArtifactError(f"{what}: sign the model again with 'convd sign'")
