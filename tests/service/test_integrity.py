"""An artifact that was altered never serves, and takes nobody down with it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest

from convd.artifact.bundle import checksums
from convd.artifact.golden import GOLDEN_CASES
from convd.protos.convd.v1 import classification_pb2 as pb
from tests.digits import Digits
from tests.support import add_version, rewrite_manifest, running_server, wait_until


def flip_byte(path: Path, position: int) -> None:
    data = bytearray(path.read_bytes())
    data[position % len(data)] ^= 1
    path.write_bytes(data)


def alter_model(artifact: Path) -> None:
    flip_byte(artifact / "model.onnx", 20_000)


def alter_expected_probability(artifact: Path) -> None:
    path = artifact / GOLDEN_CASES
    cases = json.loads(path.read_text())
    cases["cases"][0]["probabilities"][0] += 0.5
    path.write_text(json.dumps(cases))


def alter_manifest(artifact: Path) -> None:
    path = artifact / "manifest.json"
    path.write_bytes(path.read_bytes() + b" ")


def alter_golden_image(artifact: Path) -> None:
    flip_byte(next((artifact / "golden").glob("*.png")), -40)


def remove_model(artifact: Path) -> None:
    (artifact / "model.onnx").unlink()


def lie_about_the_golden_answers(artifact: Path) -> None:
    """Alter the expected probabilities with all checksums in order: only running it can tell."""
    alter_expected_probability(artifact)
    files = checksums(artifact)
    rewrite_manifest(
        artifact, files={file: files[file] for file in files if not file.startswith("manifest")}
    )


ALTERATIONS = [
    (alter_model, "model.onnx does not match its checksum"),
    (alter_expected_probability, "golden/cases.json does not match its checksum"),
    (alter_manifest, "manifest.json does not match"),
    (alter_golden_image, "does not match its checksum"),
    (remove_model, "model.onnx is missing"),
    (lie_about_the_golden_answers, "golden probabilities differ by 0.5"),
]


@pytest.mark.parametrize(
    ("alter", "reason"), ALTERATIONS, ids=[alter.__name__ for alter, _ in ALTERATIONS]
)
def test_an_altered_version_is_refused_with_the_reason_and_the_others_serve(
    repository: Path,
    published: Path,
    digits: Digits,
    alter: Callable[[Path], None],
    reason: str,
) -> None:
    add_version(repository, "other", published)
    altered = repository / "digits" / "2"
    shutil.copytree(published, altered)
    alter(altered)
    with running_server(repository) as client:
        image = digits.encoded()
        assert client.classify(image).model_version == 1
        assert client.classify(image, model="other").model_version == 1
        listed = client.stub.ListModels(pb.ListModelsRequest(), timeout=10).models
        (refused,) = [one for one in listed if one.state == pb.ModelVersion.STATE_FAILED]
        assert (refused.name, refused.version) == ("digits", 2)
        assert reason in refused.reason
        with pytest.raises(grpc.RpcError) as caught:
            request = pb.ClassifyRequest(
                model=pb.ModelSpec(name="digits", version=2), images=[pb.Image(encoded=image)]
            )
            client.stub.Classify(request, timeout=10)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert reason in (caught.value.details() or "")
        assert (
            'convd_version_state{model="digits",state="failed",version="2"} 1.0'
            in (client.get("/metrics")[1])
        )


def test_a_model_without_any_good_version_keeps_the_server_unready(
    repository: Path, published: Path, digits: Digits
) -> None:
    alter_model(add_version(repository, "broken", published))
    with running_server(repository) as client:
        code, text = client.get("/readyz")
        assert (code, "broken" in text) == (503, True)
        assert len(client.classify(digits.encoded()).results) == 1


def test_a_refused_version_that_is_repaired_is_tried_again(
    repository: Path, published: Path
) -> None:
    altered = add_version(repository, "digits", published)
    good = (altered / "model.onnx").read_bytes()
    alter_model(altered)
    with running_server(repository) as client:
        wait_until(lambda: _state(client.stub, 2) == pb.ModelVersion.STATE_FAILED)
        (altered / "model.onnx").write_bytes(good)
        wait_until(lambda: _state(client.stub, 2) == pb.ModelVersion.STATE_AVAILABLE)
        wait_until(lambda: _state(client.stub, 1) == pb.ModelVersion.STATE_UNLOADED)


def test_a_version_that_arrives_while_serving_takes_over(
    repository: Path, published: Path, digits: Digits
) -> None:
    image = digits.encoded()
    with running_server(repository) as client:
        assert client.classify(image).model_version == 1
        add_version(repository, "digits", published)
        wait_until(lambda: client.classify(image).model_version == 2)
        shutil.rmtree(repository / "digits" / "2")
        wait_until(lambda: client.classify(image).model_version == 1)


def _state(stub: object, version: int) -> int:
    listed = stub.ListModels(pb.ListModelsRequest(), timeout=10).models  # type: ignore[attr-defined]
    return next((one.state for one in listed if one.version == version), 0)
