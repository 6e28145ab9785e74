"""Keys, and signatures for artifacts that are published already."""

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from convd.artifact.repository import ModelRepository
from convd.artifact.signature import VALID_DAYS, Signer
from convd.artifact.signing_keys import SigningKey

KEY = generate_private_key(SECP256R1())
STRANGER = generate_private_key(SECP256R1())


def private_pem(key: SigningKey) -> bytes:
    """A private key as `convd sign` reads it."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def public_pem(key: SigningKey) -> bytes:
    """A public key as a server reads it."""
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def sign_version(
    root: Path,
    name: str,
    version: int,
    key: SigningKey = KEY,
    *,
    valid_days: int = VALID_DAYS,
) -> None:
    """Sign a version as it lies in a repository."""
    repository = ModelRepository(root)
    artifact = repository.open_version(name, version)
    configuration = repository.read_configuration(name)
    Signer(key, valid_days).sign(
        artifact.folder.path, name, version, artifact.files(), configuration
    )
