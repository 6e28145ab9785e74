"""Signed statements: which version of which model some files are, and until when that counts.

The form is that of OpenSSF's model signing: an in-toto statement in a DSSE envelope in a Sigstore
bundle. What model-signing does not sign (the version, `config.yaml`, an expiry) stands in a field
of the predicate that its verifiers ignore.

    https://github.com/in-toto/attestation/tree/main/spec/v1
    https://github.com/secure-systems-lab/dsse/blob/v1.0.2/protocol.md
    https://github.com/sigstore/model-transparency/blob/main/docs/model_signing_format.md
"""

import base64
import binascii
import hashlib
import itertools
import json
from collections.abc import Collection, Mapping
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, Field, PositiveInt, ValidationError

from convd.artifact.errors import InvalidArtifactError
from convd.artifact.frozen import FrozenModel
from convd.artifact.signing_keys import SigningKey, VerificationKey, is_signed, key_hint, sign

_BUNDLE_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
_PAYLOAD_TYPE = "application/vnd.in-toto+json"
_STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
_PREDICATE_TYPE = "https://model_signing/signature/v1.0"
_MAX_SIGNATURES = 8

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class SignedVersion(FrozenModel):
    """What is signed of a version besides its files.

    Attributes:
        model: Name of the model.
        version: Number of the version.
        configuration_sha256: SHA-256 of the model's `config.yaml`; None states that it has none.
        signed_at: When it was signed.
        expires_at: When the signature ceases to count.
    """

    model: str
    version: PositiveInt
    configuration_sha256: Sha256 | None
    signed_at: AwareDatetime
    expires_at: AwareDatetime


class Statement(FrozenModel):
    """A version and its files.

    Attributes:
        about: Which version it is, and until when.
        files: SHA-256 of every file by relative path, in order of the paths.
    """

    about: SignedVersion
    files: dict[str, Sha256]


class _Resource(BaseModel):
    name: str
    algorithm: Literal["sha256"]
    digest: Sha256


class _Predicate(BaseModel):
    resources: list[_Resource]
    convd: SignedVersion


class _InTotoStatement(BaseModel):
    type: Literal["https://in-toto.io/Statement/v1"] = Field(alias="_type")
    predicate_type: Literal["https://model_signing/signature/v1.0"] = Field(alias="predicateType")
    predicate: _Predicate


def seal(statement: Statement, key: SigningKey, *, signature_file: str) -> bytes:
    """Sign a statement.

    Args:
        statement: The statement.
        key: The private key.
        signature_file: Name of the file that will hold the result, which does not sign itself.

    Returns:
        A Sigstore bundle, as JSON.
    """
    about = statement.about
    payload = _json(
        {
            "_type": _STATEMENT_TYPE,
            "subject": [
                {
                    "name": f"{about.model}/{about.version}",
                    "digest": {"sha256": _root_digest(statement.files)},
                }
            ],
            "predicateType": _PREDICATE_TYPE,
            "predicate": {
                "serialization": {
                    "method": "files",
                    "hash_type": "sha256",
                    "allow_symlinks": False,
                    "ignore_paths": [signature_file],
                },
                "resources": [
                    {"name": name, "algorithm": "sha256", "digest": digest}
                    for name, digest in statement.files.items()
                ],
                "convd": about.model_dump(mode="json"),
            },
        }
    )
    envelope = {
        "payload": base64.b64encode(payload).decode(),
        "payloadType": _PAYLOAD_TYPE,
        "signatures": [
            {"sig": base64.b64encode(sign(_signed_bytes(payload), key)).decode(), "keyid": ""}
        ],
    }
    hint = key_hint(key.public_key())
    material = {"publicKey": {"hint": hint}, "tlogEntries": list[str]()}
    bundle = {
        "mediaType": _BUNDLE_TYPE,
        "verificationMaterial": material,
        "dsseEnvelope": envelope,
    }
    return _json(bundle) + b"\n"


def unseal(bundle: bytes, keys: Collection[VerificationKey], *, signature_file: str) -> Statement:
    """Read a statement; nothing of it is parsed before its signature is verified.

    Args:
        bundle: What `seal` wrote.
        keys: The public keys, one of which must verify it.
        signature_file: Name of the file, for errors.

    Raises:
        InvalidArtifactError: It is malformed, altered, signed with another key, or says nothing of
            a model's version.
    """
    try:
        envelope = json.loads(bundle)["dsseEnvelope"]
        payload = base64.b64decode(envelope["payload"], validate=True)
        signatures = [base64.b64decode(one["sig"], validate=True) for one in envelope["signatures"]]
        is_statement = envelope["payloadType"] == _PAYLOAD_TYPE
    except (ValueError, KeyError, TypeError, RecursionError, binascii.Error) as error:
        raise InvalidArtifactError(
            f"{signature_file} is not a signature that convd can read: sign the version again with "
            "'convd sign'",
            detail=str(error),
        ) from error
    signed = _signed_bytes(payload)
    pairs = itertools.product(signatures[:_MAX_SIGNATURES], keys)
    if not is_statement or not any(is_signed(signed, one, key) for one, key in pairs):
        raise InvalidArtifactError(
            f"{signature_file} was not made with the required key, or was altered afterwards"
        )
    try:
        predicate = _InTotoStatement.model_validate_json(payload).predicate
    except ValidationError as error:
        raise InvalidArtifactError(
            f"{signature_file} does not say which version of which model it is for: sign the "
            "version again with 'convd sign'",
            detail=str(error),
        ) from error
    files = {one.name: one.digest for one in predicate.resources}
    return Statement(about=predicate.convd, files=files)


def _signed_bytes(payload: bytes) -> bytes:
    """DSSE's pre-authentication encoding."""
    return b"DSSEv1 %d %s %d %s" % (
        len(_PAYLOAD_TYPE),
        _PAYLOAD_TYPE.encode(),
        len(payload),
        payload,
    )


def _root_digest(files: Mapping[str, str]) -> str:
    """One digest of all files, as model-signing computes it."""
    return hashlib.sha256(b"".join(map(bytes.fromhex, files.values()))).hexdigest()


def _json(value: dict[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
