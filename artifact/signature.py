"""`VERSION/model.sig`: the signature of a published version."""

import hashlib
import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePosixPath

from convd.artifact.contained import ContainedFolder
from convd.artifact.errors import InvalidArtifactError
from convd.artifact.signing_keys import SigningKey, VerificationKey
from convd.artifact.staging import locked, replacing
from convd.artifact.statement import SignedVersion, Statement, seal, unseal

SIGNATURE_FILE = PurePosixPath("model.sig")
MAX_SIGNATURE_BYTES = 4 * 1024 * 1024
VALID_DAYS = 365
_CLOCK_SKEW = timedelta(minutes=5)


@dataclass(frozen=True)
class Signer:
    """Signs versions.

    Attributes:
        key: The private key.
        valid_days: How long each signature counts.
    """

    key: SigningKey
    valid_days: int = VALID_DAYS

    def sign(
        self,
        folder: Path,
        model: str,
        version: int,
        files: dict[str, str],
        configuration: bytes | None,
    ) -> None:
        """Write a version's signature, in the place of an earlier one.

        Args:
            folder: The version's folder.
            model: Name of the model.
            version: Number of the version.
            files: SHA-256 of every file in the folder, by relative path.
            configuration: The model's `config.yaml`; None if there is none.
        """
        now = datetime.now(UTC)
        about = SignedVersion(
            model=model,
            version=version,
            configuration_sha256=configuration_digest(configuration),
            signed_at=now,
            expires_at=now + timedelta(days=self.valid_days),
        )
        statement = Statement(about=about, files=dict(sorted(files.items())))
        data = seal(statement, self.key, signature_file=str(SIGNATURE_FILE))
        # A server may read it at any moment.
        with locked(folder.parent), replacing(folder / SIGNATURE_FILE) as file:
            file.write(data)
            os.fchmod(file.fileno(), 0o644)


@dataclass(frozen=True)
class SignatureRule:
    """Which signatures count.

    Attributes:
        keys: The public keys, one of which must verify them.
        signed_since: Signatures made before this count no longer; None sets no such limit.
    """

    keys: tuple[VerificationKey, ...]
    signed_since: datetime | None = None

    def read(self, folder: ContainedFolder, model: str, version: int) -> Statement:
        """Read and check the signature of a version.

        Args:
            folder: The version's folder.
            model: Name of the model under which it lies.
            version: Number of the version under which it lies.

        Raises:
            InvalidArtifactError: There is no signature, or it was made with another key, for
                another model or version, or at a time that does not count.
            OutsideError: The signature cannot be read.
        """
        try:
            data = folder.read(SIGNATURE_FILE, MAX_SIGNATURE_BYTES)
        except FileNotFoundError:
            raise InvalidArtifactError(
                "the artifact is not signed, and a signature is required: sign it with 'convd sign'"
            ) from None
        statement = unseal(data, self.keys, signature_file=str(SIGNATURE_FILE))
        about, now = statement.about, datetime.now(UTC)
        if (about.model, about.version) != (model, version):
            raise InvalidArtifactError(
                f"{SIGNATURE_FILE} is for another model or version than {model} version {version}: "
                "a copy under another name or number has to be signed again"
            )
        if about.expires_at <= now:
            raise InvalidArtifactError(
                f"the signature expired on {about.expires_at:%Y-%m-%d}: sign the version again "
                "with 'convd sign'"
            )
        if about.signed_at > now + _CLOCK_SKEW:
            raise InvalidArtifactError(
                f"{SIGNATURE_FILE} was made in the future: set the clocks of this machine and of "
                "the one that signs"
            )
        if self.signed_since is not None and about.signed_at < self.signed_since:
            raise InvalidArtifactError(
                f"{SIGNATURE_FILE} was made on {about.signed_at:%Y-%m-%d}, before --signed-since: "
                "sign the version again with 'convd sign' if it is still to be served"
            )
        return statement


def configuration_digest(configuration: bytes | None) -> str | None:
    """SHA-256 of a `config.yaml`; None if there is none."""
    return None if configuration is None else hashlib.sha256(configuration).hexdigest()
