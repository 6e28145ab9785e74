"""Models from object storage: a real S3 server, a real gRPC server, outages and half versions."""

import contextlib
import logging
import shutil
import threading
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path

import pytest
from PIL import Image

import convd
from convd.artifact.bundle import Artifact
from convd.artifact.errors import ArtifactError
from convd.artifact.mirror import Mirror
from convd.artifact.object_storage import ObjectStorage
from convd.artifact.remote_repository import RemoteRepository
from convd.artifact.signature import Signer
from convd.artifact.signed_repository import configuration_to_publish
from testbed.server import server_process
from tests.artifact.signing import KEY, public_pem
from tests.object_storage import StorageServer, storage_server
from tests.support import Client, png, running_server, wait_until
from tests.tiny_artifact import publish_tiny

PICTURE = png(Image.new("RGB", (6, 4), (200, 90, 20)))


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[StorageServer]:
    with storage_server(monkeypatch) as server:
        yield server


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three versions that answer differently, in a local repository."""
    root = tmp_path_factory.mktemp("local")
    for seed in range(3):
        publish_tiny(root, seed=seed)
    return root / "pets"


def answers(server: Client) -> tuple[int, tuple[float, ...]]:
    answer = server.classify(PICTURE, model="pets")
    classes = answer.results[0].classification.classes
    return answer.model_version, tuple(one.probability for one in classes)


def local_answer(artifact: Path) -> tuple[float, ...]:
    with convd.load(artifact, intra_op_threads=1) as model:
        classes = model.classify(PICTURE, top_k=0).classes
        return tuple(one.probability for one in classes)


def unreadable(server: Client) -> bool:
    return "convd_repository_unreadable 1.0" in server.get("/metrics")[1]


def test_a_version_is_served_replaced_kept_through_an_outage_and_removed(
    s3: StorageServer, artifacts: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    expected = {version: local_answer(artifacts / str(version)) for version in (1, 2, 3)}
    assert len(set(expected.values())) == 3
    s3.publish(artifacts / "1")
    with running_server(s3.url, repository_cache=tmp_path) as server:
        assert answers(server) == (1, expected[1])
        seen: list[tuple[int, tuple[float, ...]]] = []
        failures: list[Exception] = []
        over = threading.Event()

        def ask() -> None:
            while not over.is_set():
                try:
                    seen.append(answers(server))
                except Exception as error:
                    failures.append(error)

        caller = threading.Thread(target=ask)
        caller.start()
        s3.publish(artifacts / "2")
        wait_until(lambda: seen[-1][0] == 2)

        s3.stop()
        wait_until(lambda: unreadable(server))
        outage = len(seen)
        wait_until(lambda: len(seen) > outage + 50)
        assert server.get("/readyz")[0] == 200
        assert caplog.text.count(f"loaded versions stay loaded: {s3.url}: cannot list") == 1
        s3.start()
        wait_until(lambda: not unreadable(server))
        assert caplog.text.count(f"readable again: {s3.url}") == 1

        s3.publish(artifacts / "3")
        wait_until(lambda: seen[-1][0] == 3)
        storage = s3.storage()
        storage.remove([path for path in storage.objects() if path.startswith("pets/3/")])
        wait_until(lambda: seen[-1][0] == 2)
        over.set()
        caller.join()
    assert failures == []
    assert {one for one in seen if one[1] != expected[one[0]]} == set()


def mirror_of(s3: StorageServer, root: Path) -> Mirror:
    return Mirror(lambda: ObjectStorage(s3.url), s3.url, root)


def versions_in(root: Path) -> set[str]:
    return {path.name for path in (root / "pets").glob("[0-9]*")}


def test_a_version_is_copied_whole_or_not_at_all(
    s3: StorageServer, artifacts: Path, tmp_path: Path
) -> None:
    storage, mirror = s3.storage(), mirror_of(s3, tmp_path)
    s3.publish(artifacts / "1")
    mirror.sync()
    files = sorted(
        one.relative_to(artifacts / "2").as_posix()
        for one in (artifacts / "2").rglob("*")
        if one.is_file()
    )
    # As `aws s3 cp --recursive` does: in any order, the manifest before what it lists.
    for number, file in enumerate(files):
        with contextlib.suppress(ArtifactError):
            mirror.sync()
        assert versions_in(tmp_path) == {"1"}, f"after {number} of {len(files)} files"
        storage.put(artifacts / "2" / file, f"pets/2/{file}")
    storage.put(artifacts / "2" / "model.onnx", "pets/2/not-listed.bin")
    mirror.sync()
    assert versions_in(tmp_path) == {"1", "2"}
    copied = {one.name for one in (tmp_path / "pets/2").rglob("*") if one.is_file()}
    assert copied == {Path(file).name for file in files} | {".origin"}


@pytest.mark.parametrize(
    ("file", "content", "reason"),
    [
        ("model.onnx", b"other", "does not match its checksum"),
        ("manifest.json", b"{}", "does not match manifest.json.sha256"),
        ("model.onnx", None, "model.onnx is missing"),
    ],
)
def test_a_wrong_version_is_named_and_keeps_no_other_from_being_copied(
    s3: StorageServer,
    artifacts: Path,
    tmp_path: Path,
    file: str,
    content: bytes | None,
    reason: str,
) -> None:
    storage = s3.storage()
    s3.publish(artifacts / "1")
    s3.publish(artifacts / "2")
    if content is None:
        storage.remove([f"pets/2/{file}"])
    else:
        (tmp_path / "content").write_bytes(content)
        storage.put(tmp_path / "content", f"pets/2/{file}")
    mirror = mirror_of(s3, tmp_path / "copy")
    for _ in range(2):
        with pytest.raises(ArtifactError, match=f"pets version 2 is not copied: .*{reason}"):
            mirror.sync()
        assert versions_in(tmp_path / "copy") == {"1"}
    storage.put(artifacts / "2" / file, f"pets/2/{file}")
    mirror.sync()
    assert versions_in(tmp_path / "copy") == {"1", "2"}


def test_a_place_without_models_keeps_the_copy(
    s3: StorageServer, artifacts: Path, tmp_path: Path
) -> None:
    mirror = mirror_of(s3, tmp_path)
    with pytest.raises(ArtifactError, match="holds no models"):
        mirror.sync()
    s3.publish(artifacts / "1")
    mirror.sync()
    storage = s3.storage()
    storage.remove(list(storage.objects()))
    with pytest.raises(ArtifactError, match="holds no models"):
        mirror.sync()
    assert versions_in(tmp_path) == {"1"}
    part = Mirror(lambda: ObjectStorage(f"{s3.url}/pets"), s3.url, tmp_path / "part")
    s3.publish(artifacts / "1")
    with pytest.raises(ArtifactError, match="is a part of a repository"):
        part.sync()


def test_publishers_at_the_same_time_get_numbers_of_their_own(
    s3: StorageServer, artifacts: Path, tmp_path: Path
) -> None:
    with futures.ThreadPoolExecutor(4) as pool:
        numbers = list(pool.map(s3.publish, [artifacts / "1"] * 4))
    assert sorted(numbers) == [1, 2, 3, 4]
    mirror_of(s3, tmp_path).sync()
    assert versions_in(tmp_path) == {"1", "2", "3", "4"}


def test_a_server_starts_from_its_copy_during_an_outage(
    s3: StorageServer, artifacts: Path, tmp_path: Path
) -> None:
    s3.publish(artifacts / "1")
    s3.publish(artifacts / "2", "birds")
    with running_server(s3.url, repository_cache=tmp_path, models="pets") as server:
        expected = answers(server)
    s3.stop()
    with running_server(s3.url, repository_cache=tmp_path, models="pets") as server:
        assert answers(server) == expected
        assert unreadable(server)
    s3.start()


def test_a_server_waits_for_a_storage_that_it_has_never_reached(
    s3: StorageServer, artifacts: Path, tmp_path: Path
) -> None:
    s3.publish(artifacts / "1")
    s3.stop()
    with running_server(s3.url, repository_cache=tmp_path, wait=False) as server:
        wait_until(lambda: "cannot list" in server.get("/readyz")[1])
        s3.start()
        wait_until(lambda: server.get("/readyz")[0] == 200)
        assert answers(server)[0] == 1


def test_what_is_signed_while_it_is_published_is_served_by_who_requires_it(
    s3: StorageServer, artifacts: Path, tmp_path: Path
) -> None:
    (tmp_path / "key.pem").write_bytes(public_pem(KEY))
    repository = RemoteRepository(s3.storage())

    def publish(version: int) -> None:
        staging = tmp_path / f"staging-{version}"
        shutil.copytree(artifacts / str(version), staging)

        def sign(number: int) -> None:
            files = Artifact.open(staging).files()
            configuration = configuration_to_publish(repository, "pets", KEY.public_key())
            Signer(KEY).sign(staging, "pets", number, files, configuration)

        repository.publish("pets", staging, sign)

    publish(1)
    publish(2)
    with running_server(
        s3.url, repository_cache=tmp_path / "copy", require_signature=tmp_path / "key.pem"
    ) as server:
        assert answers(server)[0] == 2
    (tmp_path / "config.yaml").write_text("max_batch_size: 2\n")
    s3.storage().put(tmp_path / "config.yaml", "pets/config.yaml")
    with pytest.raises(ArtifactError, match="was added after version 2 was signed"):
        publish(3)
    assert repository.versions("pets") == [1, 2]


@pytest.mark.slow
def test_workers_copy_a_version_once(
    s3: StorageServer, artifacts: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def copies(version: int) -> int:
        requests = [one for one in caplog.messages if f"/pets/{version}/model.onnx" in one]
        return sum("GET" in one for one in requests)

    caplog.set_level(logging.INFO, "werkzeug")
    s3.publish(artifacts / "1")
    flags = ("--workers", 2, "--repository-cache", tmp_path / "cache", "--poll-seconds", 0.2)
    with server_process(s3.url, tmp_path / "log", *flags):
        assert copies(1) == 1
        s3.publish(artifacts / "2")
        wait_until(lambda: (tmp_path / "log").read_text().count("unloaded pets version 1") == 2)
        assert copies(2) == 1
