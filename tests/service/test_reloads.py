"""Versions change under load, and nobody notices but by the version number."""

import io
import shutil
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from PIL import Image

from convd.artifact.bundle import MODEL_FILE
from convd.artifact.preprocessing import prepare_image
from convd.protos.convd.v1 import classification_pb2 as pb
from testbed.closed_loop import ClosedLoop, plain_channel
from tests.support import running_server, wait_until
from tests.tiny_artifact import RECIPE, publish_tiny

GOOD = {1, 2, 4, 6, 7}
CORRUPT, HALF = 3, 5


def test_every_answer_is_that_of_the_version_that_it_names(tmp_path: Path) -> None:
    picture = Image.new("RGB", (6, 4), (200, 30, 90))
    file = io.BytesIO()
    picture.save(file, "PNG")
    request = pb.ClassifyRequest(
        model=pb.ModelSpec(name="pets"), images=[pb.Image(encoded=file.getvalue())]
    )
    for seed in range(1, 8):
        publish_tiny(tmp_path / "prepared", seed=seed)
    prepared = {version: tmp_path / "prepared" / "pets" / str(version) for version in range(1, 8)}
    expected: dict[int, NDArray[np.float32]] = {}
    image = prepare_image(picture, RECIPE)[np.newaxis]
    for version, path in prepared.items():
        session = ort.InferenceSession(path / MODEL_FILE, providers=["CPUExecutionProvider"])
        expected[version] = session.run(["probabilities"], {"image": image})[0][0]
        for other in range(1, version):
            assert np.abs(expected[other] - expected[version]).max() > 1e-3, "they answer alike"
    network = prepared[CORRUPT] / MODEL_FILE
    network.write_bytes(network.read_bytes()[:-1] + b"?")
    (prepared[HALF] / "manifest.json").unlink()

    repository = tmp_path / "repository"
    (repository / "pets").mkdir(parents=True)
    prepared[1].rename(repository / "pets" / "1")
    with (
        running_server(repository, provider="cpu") as client,
        ClosedLoop(
            plain_channel(client.grpc_port), request, expected.__getitem__, callers=8
        ) as loop,
    ):
        wait_until(lambda: loop.calls)
        for version in range(2, 8):
            prepared[version].rename(repository / "pets" / str(version))
            good = version in GOOD
            state = pb.ModelVersion.STATE_AVAILABLE if good else pb.ModelVersion.STATE_FAILED

            def arrived(version: int = version, state: int = state) -> bool:
                listed = client.stub.ListModels(pb.ListModelsRequest(), timeout=10).models
                return any(one.version == version and one.state == state for one in listed)

            wait_until(arrived)
            if good:
                wait_until(lambda version=version: loop.calls[-1].version == version)
        shutil.rmtree(repository / "pets" / "7")
        wait_until(lambda: loop.calls[-1].version == 6)
    assert {call.problem for call in loop.calls} == {""}
    assert {call.version for call in loop.calls} == GOOD
