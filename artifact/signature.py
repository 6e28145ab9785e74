"""Signatures over manifests: who published an artifact.

The manifest holds the checksum of every other file, so signing it signs the whole artifact. The
scheme is Ed25519 (RFC 8032).
"""

import base64
import binascii
from pathlib import Path, PurePosixPath

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

from convd.artifact.errors import InvalidArtifactError, SigningKeyError

SIGNATURE_FILE = PurePosixPath("manifest.json.sig")

_MAKE_KEY = "make one with: openssl genpkey -algorithm ed25519 -out key.pem"
_MAKE_PUBLIC_KEY = "make it with: openssl pkey -in key.pem -pubout -out key.pub.pem"


def read_private_key(path: Path) -> Ed25519PrivateKey:
    """Read the key to sign with.

    Args:
        path: An unencrypted PEM file.

    Raises:
        SigningKeyError: It is missing, encrypted, or not an Ed25519 private key.
    """
    try:
        key = load_pem_private_key(_read(path), password=None)
    # TypeError: the key is encrypted.
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise SigningKeyError(
            f"{path} is not a private key in PEM format: {error}; {_MAKE_KEY}"
        ) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise SigningKeyError(f"{path} is not an Ed25519 key; {_MAKE_KEY}")
    return key


def read_public_key(path: Path) -> Ed25519PublicKey:
    """Read the key to verify with.

    Args:
        path: A PEM file.

    Raises:
        SigningKeyError: It is missing, or not an Ed25519 public key.
    """
    try:
        key = load_pem_public_key(_read(path))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise SigningKeyError(
            f"{path} is not a public key in PEM format: {error}; {_MAKE_PUBLIC_KEY}"
        ) from error
    if not isinstance(key, Ed25519PublicKey):
        raise SigningKeyError(f"{path} is not an Ed25519 key; {_MAKE_PUBLIC_KEY}")
    return key


def sign(manifest_bytes: bytes, key: Ed25519PrivateKey) -> bytes:
    """Sign a manifest; the signature is one line of base64."""
    return base64.b64encode(key.sign(manifest_bytes)) + b"\n"


def check_signature(manifest_bytes: bytes, signature: bytes, key: Ed25519PublicKey) -> None:
    """Refuse a manifest that was not signed with the matching private key.

    Raises:
        InvalidArtifactError: The signature is malformed, or belongs to another key or manifest.
    """
    try:
        key.verify(base64.b64decode(signature.strip(), validate=True), manifest_bytes)
    except (InvalidSignature, binascii.Error) as error:
        raise InvalidArtifactError(
            f"{SIGNATURE_FILE} is not a signature of this manifest with the required key: "
            "the artifact was altered, or signed with another key"
        ) from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SigningKeyError(f"the key {path} cannot be read: {error.strerror}") from error
