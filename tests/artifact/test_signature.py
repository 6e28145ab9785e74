"""A signature counts for one model, version, set of files and configuration, and for a time."""

import base64
import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import given
from hypothesis import strategies as st

from convd.artifact import signature
from convd.artifact.bundle import Artifact, checksums
from convd.artifact.errors import ArtifactError, InvalidArtifactError, SigningKeyError
from convd.artifact.repository import ModelRepository
from convd.artifact.signature import SIGNATURE_FILE, SignatureRule, Signer
from convd.artifact.signed_repository import SignedRepository, configuration_to_publish
from convd.artifact.signing_keys import SigningKey, read_signing_key, read_verification_keys
from convd.artifact.statement import SignedVersion, Statement, seal, unseal
from convd.commands.main import main
from tests.artifact.signing import KEY, STRANGER, private_pem, public_pem, sign_version
from tests.support import rewrite_manifest
from tests.tiny_artifact import publish_tiny

RULE = SignatureRule((KEY.public_key(),))
NAME = str(SIGNATURE_FILE)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A repository with the versions 1 and 2 of `pets`, signed."""
    for version in (1, 2):
        publish_tiny(tmp_path / "r", seed=version)
        sign_version(tmp_path / "r", "pets", version)
    return tmp_path / "r"


def statement(**about: object) -> Statement:
    now = datetime.now(UTC)
    fields = {
        "model": "pets",
        "version": 1,
        "configuration_sha256": None,
        "signed_at": now,
        "expires_at": now + timedelta(days=1),
    }
    return Statement(
        about=SignedVersion.model_validate(fields | about), files={"model.onnx": "0" * 64}
    )


@pytest.mark.parametrize(
    "key",
    [
        KEY,
        ec.generate_private_key(ec.SECP384R1()),
        ec.generate_private_key(ec.SECP521R1()),
        Ed25519PrivateKey.generate(),
    ],
    ids=["P-256", "P-384", "P-521", "Ed25519"],
)
def test_every_kind_of_key_signs_and_verifies(key: SigningKey, tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_bytes(private_pem(key))
    (tmp_path / "key.pub.pem").write_bytes(public_pem(key))
    public = read_verification_keys(tmp_path / "key.pub.pem")
    said = statement()
    sealed = seal(said, read_signing_key(tmp_path / "key.pem"), signature_file=NAME)
    assert unseal(sealed, public, signature_file=NAME) == said
    with pytest.raises(InvalidArtifactError, match="was not made with the required key"):
        unseal(sealed, [STRANGER.public_key()], signature_file=NAME)


@given(noise=st.binary(max_size=200))
def test_arbitrary_bytes_are_not_a_signature(noise: bytes) -> None:
    with pytest.raises(InvalidArtifactError, match=NAME):
        unseal(noise, [KEY.public_key()], signature_file=NAME)


@given(
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["payload", "signatures", "sig"]), inner)
        ),
    )
)
def test_arbitrary_json_is_not_a_signature(value: object) -> None:
    for bundle in (value, {"dsseEnvelope": value}):
        with pytest.raises(InvalidArtifactError, match=NAME):
            unseal(json.dumps(bundle).encode(), [KEY.public_key()], signature_file=NAME)


@given(place=st.integers(min_value=0), bit=st.integers(0, 7))
def test_a_statement_with_one_other_bit_is_refused(place: int, bit: int) -> None:
    bundle = json.loads(seal(statement(), KEY, signature_file=NAME))
    payload = bytearray(base64.b64decode(bundle["dsseEnvelope"]["payload"]))
    payload[place % len(payload)] ^= 1 << bit
    bundle["dsseEnvelope"]["payload"] = base64.b64encode(payload).decode()
    with pytest.raises(InvalidArtifactError, match="was altered afterwards"):
        unseal(json.dumps(bundle).encode(), [KEY.public_key()], signature_file=NAME)


def test_a_signed_statement_about_something_else_is_refused() -> None:
    bundle = json.loads(seal(statement(), KEY, signature_file=NAME))
    for kind in ("predicateType", "_type", "predicate"):
        payload = json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"]))
        payload[kind] = {"resources": []} if kind == "predicate" else "https://example.org/other"
        # Whatever a key has signed for another purpose must not count for this one.
        with pytest.raises(InvalidArtifactError, match="does not say which version"):
            unseal(resign(payload), [KEY.public_key()], signature_file=NAME)
    bundle["dsseEnvelope"]["payloadType"] = "text/plain"
    with pytest.raises(InvalidArtifactError, match="was not made with the required key"):
        unseal(json.dumps(bundle).encode(), [KEY.public_key()], signature_file=NAME)


def resign(payload: dict[str, object]) -> bytes:
    data = json.dumps(payload).encode()
    kind = b"application/vnd.in-toto+json"
    signed = b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(data), data)
    made = KEY.sign(signed, ec.ECDSA(SHA256()))
    envelope = {
        "payload": base64.b64encode(data).decode(),
        "payloadType": kind.decode(),
        "signatures": [{"sig": base64.b64encode(made).decode()}],
    }
    return json.dumps({"dsseEnvelope": envelope}).encode()


def test_the_statement_names_model_version_files_configuration_and_expiry(root: Path) -> None:
    (root / "pets" / "config.yaml").write_text("max_batch_size: 4\n")
    sign_version(root, "pets", 2, valid_days=10)
    bundle = json.loads((root / "pets" / "2" / NAME).read_bytes())
    said = json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"]))
    assert said["subject"][0]["name"] == "pets/2"
    about = said["predicate"]["convd"]
    assert (about["model"], about["version"]) == ("pets", 2)
    assert about["configuration_sha256"] == checksums(root / "pets")["config.yaml"]
    days = datetime.fromisoformat(about["expires_at"]) - datetime.now(UTC)
    assert timedelta(days=9.9) < days < timedelta(days=10)
    files = {one["name"]: one["digest"] for one in said["predicate"]["resources"]}
    on_disk = checksums(root / "pets" / "2")
    assert files == {name: digest for name, digest in on_disk.items() if name != NAME}


def move_to(target: str) -> Callable[[Path], None]:
    def copy(root: Path) -> None:
        shutil.rmtree(root / target, ignore_errors=True)
        shutil.copytree(root / "pets" / "1", root / target)

    return copy


def alter_manifest(root: Path) -> None:
    rewrite_manifest(root / "pets" / "1", temperature=2.0)


def list_a_file_less(root: Path) -> None:
    files = Artifact.open(root / "pets" / "1").manifest.files
    rewrite_manifest(root / "pets" / "1", files={"model.onnx": files["model.onnx"]})


def alter_network(root: Path) -> None:
    (root / "pets" / "1" / "model.onnx").write_bytes(b"other")


def take_the_signature_of_another(root: Path) -> None:
    shutil.copy(root / "pets" / "2" / NAME, root / "pets" / "1" / NAME)


def let_it_expire(root: Path) -> None:
    sign_version(root, "pets", 1, valid_days=-1)


def sign_with_another_key(root: Path) -> None:
    sign_version(root, "pets", 1, STRANGER)


def remove_the_signature(root: Path) -> None:
    (root / "pets" / "1" / NAME).unlink()


@pytest.mark.parametrize(
    ("attack", "place", "message"),
    [
        (move_to("cats/1"), "cats/1", "for another model or version than cats version 1"),
        (move_to("Pets/1"), "Pets/1", "for another model or version than Pets version 1"),
        (move_to("pets/3"), "pets/3", "for another model or version than pets version 3"),
        (move_to("pets/2"), "pets/2", "for another model or version than pets version 2"),
        (alter_manifest, "pets/1", "manifest.json is not the one that was signed"),
        (list_a_file_less, "pets/1", "manifest.json is not the one that was signed"),
        (alter_network, "pets/1", "model.onnx does not match its checksum"),
        (take_the_signature_of_another, "pets/1", "for another model or version"),
        (let_it_expire, "pets/1", "the signature expired on 20"),
        (sign_with_another_key, "pets/1", "was not made with the required key"),
        (remove_the_signature, "pets/1", "not signed, .* sign it with 'convd sign'"),
    ],
)
def test_whatever_was_not_signed_so_is_refused(
    attack: Callable[[Path], None], place: str, message: str, root: Path
) -> None:
    attack(root)
    name, version = place.split("/")
    with pytest.raises(InvalidArtifactError, match=message):
        SignedRepository(root, RULE).open_version(name, int(version)).check_all_files()


def test_what_was_signed_opens_with_and_without_the_rule(root: Path) -> None:
    SignedRepository(root, RULE).open_version("pets", 1).check_all_files()
    Artifact.open(root / "pets" / "1").check_all_files()


def test_signatures_before_a_date_count_no_longer(root: Path) -> None:
    later = datetime.now(UTC) + timedelta(seconds=1)
    with pytest.raises(InvalidArtifactError, match="before --signed-since"):
        SignedRepository(root, SignatureRule((KEY.public_key(),), later)).open_version("pets", 1)


def test_a_key_is_replaced_by_another_without_a_gap(root: Path, tmp_path: Path) -> None:
    (tmp_path / "keys.pem").write_bytes(public_pem(STRANGER) + b"\n# old:\n" + public_pem(KEY))
    both = SignatureRule(read_verification_keys(tmp_path / "keys.pem"))
    sign_version(root, "pets", 2, STRANGER)
    for version in (1, 2):
        SignedRepository(root, both).open_version("pets", version)
    with pytest.raises(InvalidArtifactError, match="was not made with the required key"):
        SignedRepository(root, SignatureRule((STRANGER.public_key(),))).open_version("pets", 1)


def test_a_signature_from_the_future_is_refused(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Yesterday(datetime):
        @classmethod
        def now(cls, tz: object = None) -> "Yesterday":  # noqa: ARG003
            return cls.fromtimestamp(datetime.now(UTC).timestamp() - 86_400, UTC)

    monkeypatch.setattr(signature, "datetime", Yesterday)
    with pytest.raises(InvalidArtifactError, match="made in the future"):
        SignedRepository(root, RULE).open_version("pets", 1)


def test_an_older_signature_does_not_come_back_while_the_server_lives(root: Path) -> None:
    shutil.copytree(root / "pets" / "1", root / "old")
    shutil.rmtree(root / "pets" / "1")
    publish_tiny(root / "elsewhere", seed=9)
    shutil.copytree(root / "elsewhere" / "pets" / "1", root / "pets" / "1")
    sign_version(root, "pets", 1)
    repository = SignedRepository(root, RULE)
    repository.open_version("pets", 1)
    shutil.rmtree(root / "pets" / "1")
    shutil.copytree(root / "old", root / "pets" / "1")
    with pytest.raises(InvalidArtifactError, match="before the one that was served"):
        repository.open_version("pets", 1)


def test_the_signature_made_last_says_what_the_configuration_must_be(root: Path) -> None:
    path = root / "pets" / "config.yaml"
    assert SignedRepository(root, RULE).read_configuration("pets") is None
    path.write_text("max_batch_size: 4\n")
    with pytest.raises(InvalidArtifactError, match="was added after version 2 was signed"):
        SignedRepository(root, RULE).read_configuration("pets")
    sign_version(root, "pets", 2)
    repository = SignedRepository(root, RULE)
    assert repository.read_configuration("pets") == b"max_batch_size: 4\n"
    for version in (1, 2):
        repository.open_version("pets", version)
    path.write_text("max_batch_size: 5\n")
    for reader in (repository, SignedRepository(root, RULE)):
        with pytest.raises(InvalidArtifactError, match="was altered after version 2 was signed"):
            reader.read_configuration("pets")
    path.unlink()
    with pytest.raises(InvalidArtifactError, match="is missing, although version 2 was signed"):
        SignedRepository(root, RULE).read_configuration("pets")
    (root / "pets" / "2" / NAME).unlink()
    with pytest.raises(InvalidArtifactError, match="signed before the one that was in force"):
        repository.read_configuration("pets")


def test_a_version_that_was_signed_with_another_configuration_later_is_refused(root: Path) -> None:
    repository = SignedRepository(root, RULE)
    repository.read_configuration("pets")
    (root / "pets" / "config.yaml").write_text("labels: {stable: 1}\n")
    sign_version(root, "pets", 2)
    (root / "pets" / "config.yaml").unlink()
    with pytest.raises(InvalidArtifactError, match="is missing, although version 2 was signed"):
        repository.open_version("pets", 2)


def test_a_configuration_needs_a_signature_that_counts(tmp_path: Path) -> None:
    publish_tiny(tmp_path)
    repository = SignedRepository(tmp_path, RULE)
    assert repository.read_configuration("pets") is None
    (tmp_path / "pets" / "config.yaml").write_text("max_batch_size: 4\n")
    with pytest.raises(InvalidArtifactError, match="no version of pets has a signature"):
        repository.read_configuration("pets")


def test_a_new_signature_replaces_the_file_that_a_link_leads_to(root: Path, tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("kept")
    (root / "pets" / "1" / NAME).unlink()
    (root / "pets" / "1" / NAME).symlink_to(tmp_path / "precious")
    with pytest.raises(ArtifactError, match="leads out of the artifact"):
        SignedRepository(root, RULE).open_version("pets", 1)
    sign_version(root, "pets", 1)
    assert (tmp_path / "precious").read_text() == "kept"
    SignedRepository(root, RULE).open_version("pets", 1)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read: No such file"),
        (b"no key", "openssl"),
        (public_pem(KEY), "openssl genpkey"),
        (
            rsa.generate_private_key(65537, 2048).private_bytes(
                Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
            ),
            "neither a P-256, P-384, P-521 nor Ed25519 key; make one with: openssl genpkey",
        ),
        (
            ec.generate_private_key(ec.SECP256K1()).private_bytes(
                Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
            ),
            "neither a P-256",
        ),
    ],
    ids=["missing", "text", "public", "RSA", "another curve"],
)
def test_a_file_that_is_not_a_key_is_refused(
    content: bytes | None, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "key.pem"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SigningKeyError, match=message):
        read_signing_key(path)
    if content != public_pem(KEY):
        with pytest.raises(SigningKeyError):
            read_verification_keys(path)


def run(*words: object) -> tuple[int, str]:
    result = CliRunner().invoke(main, [str(word) for word in words])
    return result.exit_code, " ".join(result.output.split())


def test_the_command_line_signs_and_verifies_what_is_published(tmp_path: Path) -> None:
    root, key, public = tmp_path / "r", tmp_path / "key.pem", tmp_path / "key.pub.pem"
    key.write_bytes(private_pem(KEY))
    public.write_bytes(public_pem(KEY))
    publish_tiny(root, seed=1)
    publish_tiny(root, seed=2)
    assert "is not signed" in run("verify", root / "pets" / "1", "--verify-with", public)[1]
    (root / "pets" / "config.yaml").write_text("labels: {stable: 1}\n")
    code, output = run("sign", root / "pets", "--key", key)
    assert code == 0
    assert "signed pets version 1" in output
    assert "signed pets version 2" in output
    for version in (1, 2):
        assert run("verify", root / "pets" / str(version), "--verify-with", public)[0] == 0
    (root / "pets" / "config.yaml").write_text("labels: {stable: 2}\n")
    code, output = run("verify", root / "pets" / "1", "--verify-with", public)
    assert (code, "config.yaml was altered" in output) == (1, True)
    assert run("sign", root / "pets" / "2", "--key", key, "--valid-days", 30)[0] == 0
    assert run("verify", root / "pets" / "1", "--verify-with", public)[0] == 0
    alter_network(root)
    code, output = run("sign", root / "pets" / "1", "--key", key)
    assert (code, "model.onnx does not match its checksum" in output) == (1, True)
    code, output = run("sign", tmp_path, "--key", key)
    assert (code, "holds no version: give REPOSITORY/NAME" in output) == (1, True)
    shutil.copytree(root / "pets" / "2", tmp_path / "loose")
    code, output = run("sign", tmp_path / "loose", "--key", key)
    assert (code, "is not REPOSITORY/NAME/VERSION" in output) == (1, True)


def test_a_publisher_signs_no_configuration_that_it_has_not_seen(tmp_path: Path) -> None:
    repository, key = ModelRepository(tmp_path), KEY.public_key()
    path = tmp_path / "pets" / "config.yaml"
    path.parent.mkdir()
    path.write_text("max_batch_size: 4\n")
    assert configuration_to_publish(repository, "pets", key) == b"max_batch_size: 4\n"
    publish_tiny(tmp_path)
    with pytest.raises(InvalidArtifactError, match="no version of pets has a signature"):
        configuration_to_publish(repository, "pets", key)
    sign_version(tmp_path, "pets", 1)
    assert configuration_to_publish(repository, "pets", key) == b"max_batch_size: 4\n"
    path.write_text("max_batch_size: 5\n")
    with pytest.raises(InvalidArtifactError, match="was altered after version 1 was signed"):
        configuration_to_publish(repository, "pets", key)
    path.unlink()
    with pytest.raises(InvalidArtifactError, match="is missing"):
        configuration_to_publish(repository, "pets", key)


def test_a_publisher_signs_the_number_that_it_gets(tmp_path: Path) -> None:
    publish_tiny(tmp_path, seed=1)
    repository = SignedRepository(tmp_path, RULE)
    taken: list[int] = []

    def sign(version: int) -> None:
        if not taken:
            # Another publisher is faster.
            publish_tiny(tmp_path, seed=2)
        taken.append(version)
        Signer(KEY).sign(staging, "pets", version, Artifact.open(staging).files(), None)

    with repository.staging("pets") as staging:
        shutil.copytree(tmp_path / "pets" / "1", staging, dirs_exist_ok=True)
        assert repository.publish("pets", staging, sign) == 3
    assert taken == [2, 3]
    repository.open_version("pets", 3)
