"""Keys that sign artifacts: ECDSA on the NIST curves, or Ed25519.

The algorithm follows from the key. OpenSSF's model-signing verifies ECDSA alone.
"""

import hashlib
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, SHA512
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from convd.artifact.errors import SigningKeyError

SigningKey = Ed25519PrivateKey | ec.EllipticCurvePrivateKey
VerificationKey = Ed25519PublicKey | ec.EllipticCurvePublicKey

_HASHES: dict[str, type[SHA256 | SHA384 | SHA512]] = {
    "secp256r1": SHA256,
    "secp384r1": SHA384,
    "secp521r1": SHA512,
}
_END = b"-----END PUBLIC KEY-----"
_MAKE_KEY = (
    "make one with: openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out key.pem"
)
_MAKE_PUBLIC_KEY = "make it with: openssl pkey -in key.pem -pubout -out key.pub.pem"


def read_signing_key(path: Path) -> SigningKey:
    """Read the key to sign with.

    Args:
        path: An unencrypted PEM file.

    Raises:
        SigningKeyError: It is missing, encrypted, or not a private key of a supported kind.
    """
    try:
        key = load_pem_private_key(_read(path), password=None)
    # TypeError: the key is encrypted.
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise SigningKeyError(
            f"{path} is not an unencrypted private key in PEM format; {_MAKE_KEY}",
            detail=str(error),
        ) from error
    if isinstance(key, Ed25519PrivateKey):
        return key
    if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name in _HASHES:
        return key
    raise SigningKeyError(f"{path} is neither a P-256, P-384, P-521 nor Ed25519 key; {_MAKE_KEY}")


def read_verification_keys(path: Path) -> tuple[VerificationKey, ...]:
    """Read the keys to verify with.

    Args:
        path: A PEM file, with several keys while one replaces another.

    Raises:
        SigningKeyError: It is missing, or holds something other than public keys of a supported
            kind.
    """
    blocks = [block for block in _read(path).split(_END) if block.strip()]
    return tuple(_verification_key(block + _END, path) for block in blocks or [b""])


def _verification_key(pem: bytes, path: Path) -> VerificationKey:
    try:
        key = load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise SigningKeyError(
            f"{path} is not a public key in PEM format; {_MAKE_PUBLIC_KEY}", detail=str(error)
        ) from error
    if isinstance(key, Ed25519PublicKey):
        return key
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in _HASHES:
        return key
    raise SigningKeyError(f"{path} is neither a P-256, P-384, P-521 nor Ed25519 key; {_MAKE_KEY}")


def sign(data: bytes, key: SigningKey) -> bytes:
    """Sign some bytes; an ECDSA signature is in DER."""
    if isinstance(key, Ed25519PrivateKey):
        return key.sign(data)
    return key.sign(data, ec.ECDSA(_HASHES[key.curve.name]()))


def is_signed(data: bytes, signature: bytes, key: VerificationKey) -> bool:
    """Whether a signature of some bytes was made with the matching private key."""
    try:
        if isinstance(key, Ed25519PublicKey):
            key.verify(signature, data)
        else:
            key.verify(signature, data, ec.ECDSA(_HASHES[key.curve.name]()))
    except InvalidSignature:
        return False
    return True


def key_hint(key: VerificationKey) -> str:
    """What names a key in a signature: SHA-256 of its PEM form, as model-signing computes it."""
    pem = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(pem).hexdigest()


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SigningKeyError(f"the key {path} cannot be read: {error.strerror}") from error
