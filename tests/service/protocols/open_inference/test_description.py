"""What server and models say of themselves, over a real server on loopback."""

import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from convd.protos.convd.v1 import classification_pb2 as convd_pb
from convd.protos.inference import grpc_service_pb2 as pb
from convd.protos.inference import model_config_pb2 as pb_config
from convd.protos.inference.grpc_service_pb2_grpc import GRPCInferenceServiceStub
from tests.service.protocols.open_inference.requests import (
    png,
    raw_encoded_request,
    raw_image_request,
)
from tests.support import Client, code_of, running_server
from tests.tiny_artifact import publish_tiny

Stub = GRPCInferenceServiceStub


def statistics(stub: Stub) -> pb.ModelStatistics:
    (counted,) = stub.ModelStatistics(pb.ModelStatisticsRequest(name="pets")).model_stats
    return counted


def test_server_and_model_say_what_they_are(stub: Stub) -> None:
    assert stub.ServerLive(pb.ServerLiveRequest()).live
    assert stub.ServerReady(pb.ServerReadyRequest()).ready
    server = stub.ServerMetadata(pb.ServerMetadataRequest())
    assert server.name == "convd"
    assert "statistics" in server.extensions
    assert not any("shared_memory" in name for name in server.extensions)
    model = stub.ModelMetadata(pb.ModelMetadataRequest(name="pets"))
    assert (model.name, list(model.versions), model.platform) == ("pets", ["1"], "onnxruntime_onnx")
    assert [(one.name, one.datatype, list(one.shape)) for one in model.inputs] == [
        ("image", "UINT8", [-1, 4, 6, 3]),
        ("encoded_image", "BYTES", [-1, 1]),
    ]
    assert [(one.name, one.datatype, list(one.shape)) for one in model.outputs] == [
        ("probabilities", "FP32", [-1, 3]),
        ("logits", "FP32", [-1, 3]),
    ]


@pytest.mark.parametrize(
    ("name", "version", "ready"),
    [("pets", "", True), ("pets", "1", True), ("pets", "2", False), ("fish", "", False)],
)
def test_model_ready(stub: Stub, name: str, version: str, ready: bool) -> None:
    assert stub.ModelReady(pb.ModelReadyRequest(name=name, version=version)).ready is ready


def test_model_config(stub: Stub) -> None:
    config = stub.ModelConfig(pb.ModelConfigRequest(name="pets")).config
    assert (config.name, config.max_batch_size, config.backend) == ("pets", 8, "onnxruntime")
    assert [(one.name, list(one.dims), one.optional) for one in config.input] == [
        ("image", [4, 6, 3], True),
        ("encoded_image", [1], True),
    ]
    assert [(one.name, list(one.dims)) for one in config.output] == [
        ("probabilities", [3]),
        ("logits", [3]),
    ]
    assert config.WhichOneof("scheduling_choice") == "dynamic_batching"


def test_a_model_can_be_shown_with_one_input_and_one_output(tmp_path: Path) -> None:
    """As Triton's examples of image classification want it; what it takes stays the same."""
    publish_tiny(tmp_path)
    (tmp_path / "pets" / "config.yaml").write_text("triton_interface: image\n")
    with running_server(tmp_path) as client:
        stub = Stub(client.channel)
        model = stub.ModelMetadata(pb.ModelMetadataRequest(name="pets"))
        assert [(one.name, list(one.shape)) for one in model.inputs] == [("image", [-1, 4, 6, 3])]
        assert [(one.name, list(one.shape)) for one in model.outputs] == [
            ("probabilities", [-1, 3])
        ]
        config = stub.ModelConfig(pb.ModelConfigRequest(name="pets")).config
        [given], [answer] = config.input, config.output
        assert (given.name, given.format, given.optional) == (
            "image",
            pb_config.ModelInput.FORMAT_NHWC,
            False,
        )
        assert (answer.name, list(answer.dims)) == ("probabilities", [3])
        assert stub.ModelInfer(raw_encoded_request(png())).outputs[0].name == "probabilities"


def test_statistics_add_up(pets: Path) -> None:
    with running_server(pets) as client:
        stub = Stub(client.channel)
        assert statistics(stub).inference_count == 0
        for rows in (1, 1, 20):
            stub.ModelInfer(raw_image_request(rows))
        client.classify(png(), png(), model="pets")
        code_of(lambda: stub.ModelInfer(raw_encoded_request(b"no image")))
        counted = statistics(stub)
    assert (counted.name, counted.version) == ("pets", "1")
    assert (counted.inference_count, counted.execution_count) == (24, 6)
    assert abs(counted.last_inference / 1000 - time.time()) < 3600
    stats = counted.inference_stats
    assert (stats.success.count, stats.fail.count, stats.queue.count) == (4, 1, 4)
    stages = (stats.queue, stats.compute_input, stats.compute_infer, stats.compute_output)
    assert 0 < sum(stage.ns for stage in stages) <= stats.success.ns
    assert {one.batch_size: one.compute_infer.count for one in counted.batch_stats} == {
        1: 2,
        2: 1,
        4: 1,
        8: 2,
    }
    assert all(one.compute_input.ns and one.compute_output.ns for one in counted.batch_stats)
    assert counted.response_stats["0"].success.count == 4


def test_statistics_of_what_is_not_there(stub: Stub) -> None:
    for name, version in (("fish", ""), ("pets", "2")):
        request = pb.ModelStatisticsRequest(name=name, version=version)
        assert code_of(lambda: stub.ModelStatistics(request))[0] is grpc.StatusCode.NOT_FOUND  # noqa: B023


def test_convds_own_protocol_sees_the_same_models(server: Client) -> None:
    (model,) = server.stub.ListModels(convd_pb.ListModelsRequest()).models
    assert (model.name, model.version) == ("pets", 1)


@pytest.fixture(scope="module")
def configured_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A server of two versions, whose model has settings of its own."""
    root = tmp_path_factory.mktemp("configured")
    publish_tiny(root)
    publish_tiny(root, seed=1)
    (root / "pets" / "config.yaml").write_text(
        "version_policy: all\nlabels: {stable: 1, canary: 2}\nmax_batch_size: 4\n"
        "max_queue_size: 300\nmax_queue_delay_seconds: 0.001\n"
    )
    with running_server(root) as client:
        yield client


def test_a_label_stands_for_its_version(configured_server: Client) -> None:
    stub = Stub(configured_server.channel)
    for version, expected in (("stable", "1"), ("canary", "2"), ("", "2"), ("1", "1")):
        request = raw_image_request()
        request.model_version = version
        assert stub.ModelInfer(request).model_version == expected
        assert stub.ModelReady(pb.ModelReadyRequest(name="pets", version=version)).ready
        asked = pb.ModelStatisticsRequest(name="pets", version=version)
        found = {one.version for one in stub.ModelStatistics(asked).model_stats}
        assert found == ({expected} if version else {"1", "2"})
    metadata = pb.ModelMetadataRequest(name="pets", version="beta")
    code, text = code_of(lambda: stub.ModelMetadata(metadata))
    assert code is grpc.StatusCode.NOT_FOUND
    assert "canary, stable" in text


def test_model_config_tells_the_models_own_settings(configured_server: Client) -> None:
    stub = Stub(configured_server.channel)
    config = stub.ModelConfig(pb.ModelConfigRequest(name="pets")).config
    assert config.max_batch_size == 4
    assert config.version_policy.WhichOneof("policy_choice") == "all"
    batching = config.dynamic_batching
    assert batching.max_queue_delay_microseconds == 1000
    assert batching.default_queue_policy.max_queue_size == 300
    assert (batching.priority_levels, batching.default_priority_level) == (2, 2)


def test_statistics_of_a_version_need_a_name(stub: Stub) -> None:
    request = pb.ModelStatisticsRequest(version="1")
    code, _ = code_of(lambda: stub.ModelStatistics(request))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
