import shutil
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from hypothesis import given
from hypothesis import strategies as st

from convd.artifact.bundle import Artifact, write_manifest
from convd.artifact.errors import InvalidArtifactError, SigningKeyError
from convd.artifact.signature import (
    SIGNATURE_FILE,
    check_signature,
    read_private_key,
    read_public_key,
    sign,
)
from convd.protos.convd.v1 import classification_pb2 as pb
from tests.support import rewrite_manifest, running_server

KEY = Ed25519PrivateKey.generate()
STRANGER = Ed25519PrivateKey.generate()


def private_pem(key: Ed25519PrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def public_pem(key: Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


@pytest.fixture
def signed(published: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "signed" / "1"
    shutil.copytree(published, copy)
    write_manifest(copy, Artifact.open(copy).manifest, signing_key=KEY)
    return copy


@given(manifest=st.binary(max_size=300), other=st.binary(max_size=300))
def test_a_signature_is_good_for_one_manifest_and_one_key(manifest: bytes, other: bytes) -> None:
    signature = sign(manifest, KEY)
    check_signature(manifest, signature, KEY.public_key())
    with pytest.raises(InvalidArtifactError, match="signed with another key"):
        check_signature(manifest, signature, STRANGER.public_key())
    if other != manifest:
        with pytest.raises(InvalidArtifactError, match="was altered"):
            check_signature(other, signature, KEY.public_key())


@given(signature=st.binary(max_size=120))
def test_arbitrary_bytes_are_no_signature(signature: bytes) -> None:
    with pytest.raises(InvalidArtifactError, match="is not a signature"):
        check_signature(b"manifest", signature, KEY.public_key())


def test_a_signed_artifact_opens_with_and_without_the_key(signed: Path) -> None:
    Artifact.open(signed, signed_by=KEY.public_key()).check_all_files()
    Artifact.open(signed)


def test_a_missing_signature_is_refused(published: Path) -> None:
    with pytest.raises(InvalidArtifactError, match=r"not signed, .* export it again with --sign"):
        Artifact.open(published, signed_by=KEY.public_key())


def test_a_wrong_key_is_refused(signed: Path) -> None:
    with pytest.raises(InvalidArtifactError, match="signed with another key"):
        Artifact.open(signed, signed_by=STRANGER.public_key())


def test_a_manifest_that_was_rewritten_with_its_checksum_is_refused(signed: Path) -> None:
    rewrite_manifest(signed, temperature=2.0)
    Artifact.open(signed)
    with pytest.raises(InvalidArtifactError, match="was altered"):
        Artifact.open(signed, signed_by=KEY.public_key())


def test_keys_are_read_from_pem_files(tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_bytes(private_pem(KEY))
    (tmp_path / "key.pub.pem").write_bytes(public_pem(KEY))
    signature = sign(b"manifest", read_private_key(tmp_path / "key.pem"))
    check_signature(b"manifest", signature, read_public_key(tmp_path / "key.pub.pem"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read: No such file"),
        (b"no key", "openssl"),
        (public_pem(KEY), "openssl genpkey"),
        (
            generate_private_key(SECP256R1()).private_bytes(
                Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
            ),
            "not an Ed25519 key; make one with: openssl genpkey",
        ),
    ],
)
def test_what_is_no_key_is_refused(content: bytes | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SigningKeyError, match=message):
        read_private_key(path)
    if content != public_pem(KEY):
        with pytest.raises(SigningKeyError):
            read_public_key(path)


def test_a_server_that_requires_a_signature_serves_no_other_model(
    published: Path, signed: Path, tmp_path: Path
) -> None:
    repository = tmp_path / "repository"
    shutil.copytree(signed, repository / "signed" / "1")
    shutil.copytree(published, repository / "unsigned" / "1")
    shutil.copytree(signed, repository / "stranger" / "1")
    manifest = Artifact.open(signed).manifest
    write_manifest(repository / "stranger" / "1", manifest, signing_key=STRANGER)
    key = tmp_path / "key.pub.pem"
    key.write_bytes(public_pem(KEY))
    with running_server(repository, require_signature=key) as client:
        listed = client.stub.ListModels(pb.ListModelsRequest(), timeout=10).models
    states = {one.name: (one.state, one.reason) for one in listed}
    assert states["signed"][0] == pb.ModelVersion.STATE_AVAILABLE
    assert states["unsigned"][0] == pb.ModelVersion.STATE_FAILED
    assert "is not signed" in states["unsigned"][1]
    assert states["stranger"][0] == pb.ModelVersion.STATE_FAILED
    assert str(SIGNATURE_FILE) in states["stranger"][1]
