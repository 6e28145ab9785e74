"""The protocol over a real server on loopback."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
from numpy.typing import NDArray

from protos.convd.v1 import classification_pb2 as convd_pb
from protos.inference import grpc_service_pb2 as pb
from protos.inference.grpc_service_pb2_grpc import GRPCInferenceServiceStub
from tests.service.rpc.open_inference.requests import (
    LABELS,
    pixels,
    png,
    raw_encoded_request,
    raw_image_request,
)
from tests.support import Client, code_of, running_server, wait_until
from tests.tiny_artifact import publish_tiny

Stub = GRPCInferenceServiceStub


def probabilities(response: pb.ModelInferResponse) -> NDArray[np.float32]:
    assert response.outputs[0].name == "probabilities"
    return np.frombuffer(response.raw_output_contents[0], "<f4").reshape(response.outputs[0].shape)


def statistics(stub: Stub) -> pb.ModelStatistics:
    (counted,) = stub.ModelStatistics(pb.ModelStatisticsRequest(name="pets")).model_stats
    return counted


def test_an_answer_carries_model_version_id_and_where_it_ran(stub: Stub) -> None:
    request = raw_image_request()
    request.id = "é" * 10_000
    response = stub.ModelInfer(request)
    assert (response.model_name, response.model_version) == ("pets", "1")
    assert response.id == request.id
    assert response.parameters["execution_provider"].string_param == "CPUExecutionProvider"
    assert response.parameters["batch_size"].int64_param == 1
    assert "ignored_input" not in response.parameters


def test_rows_over_the_batch_size_stay_together_and_in_order(stub: Stub) -> None:
    response = stub.ModelInfer(raw_image_request(rows=20))
    assert response.parameters["batch_size"].int64_param == 8
    assert response.parameters["batch_sizes"].string_param == "8,8,4"
    alone = []
    for row in pixels(20):
        request = raw_image_request()
        request.raw_input_contents[0] = row.tobytes()
        alone.append(probabilities(stub.ModelInfer(request)))
    np.testing.assert_allclose(probabilities(response), np.concatenate(alone), atol=1e-6)


def test_classification_with_labels(stub: Stub) -> None:
    request = raw_image_request(rows=2)
    for name in ("logits", "probabilities"):
        request.outputs.add(name=name).parameters["classification"].int64_param = 2
    response = stub.ModelInfer(request)
    assert [output.name for output in response.outputs] == ["probabilities", "logits"]
    assert [list(output.shape) for output in response.outputs] == [[2, 2], [2, 2]]
    value, index, label = response.raw_output_contents[0][4:].split(b":")[:3]
    assert label.startswith(LABELS[int(index)].encode())
    assert float(value) == pytest.approx(probabilities(stub.ModelInfer(raw_image_request())).max())


def test_pixels_come_before_image_files_and_the_answer_says_so(stub: Stub) -> None:
    request = raw_encoded_request(b"no image")
    request.inputs.extend(raw_image_request().inputs)
    request.raw_input_contents.extend(raw_image_request().raw_input_contents)
    response = stub.ModelInfer(request)
    assert response.parameters["ignored_input"].string_param == "encoded_image"


def test_a_bad_image_file_is_named_by_its_row(stub: Stub) -> None:
    code, text = code_of(lambda: stub.ModelInfer(raw_encoded_request(png(), b"no image")))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert "element 1 of input 'encoded_image'" in text


def with_version(version: str) -> pb.ModelInferRequest:
    request = raw_image_request()
    request.model_version = version
    return request


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (with_version("2"), grpc.StatusCode.NOT_FOUND),
        (with_version("1abc"), grpc.StatusCode.INVALID_ARGUMENT),
        (pb.ModelInferRequest(model_name="fish"), grpc.StatusCode.NOT_FOUND),
        (pb.ModelInferRequest(model_name="x" * 20_000), grpc.StatusCode.NOT_FOUND),
        (pb.ModelInferRequest(model_name="\x00\r\n"), grpc.StatusCode.NOT_FOUND),
        (pb.ModelInferRequest(), grpc.StatusCode.NOT_FOUND),
        (pb.ModelInferRequest(model_name="pets"), grpc.StatusCode.INVALID_ARGUMENT),
        (raw_image_request(rows=257), grpc.StatusCode.INVALID_ARGUMENT),
    ],
)
def test_refusals(stub: Stub, request_: pb.ModelInferRequest, code: grpc.StatusCode) -> None:
    found, text = code_of(lambda: stub.ModelInfer(request_))
    assert found is code
    assert len(text) < 400
    assert text.isprintable()
    # Metadata and configuration agree with inference about names and versions.
    if request_.model_name != "pets" or request_.model_version:
        name, version = request_.model_name, request_.model_version
        metadata = pb.ModelMetadataRequest(name=name, version=version)
        assert code_of(lambda: stub.ModelMetadata(metadata))[0] is code
        config = pb.ModelConfigRequest(name=name, version=version)
        assert code_of(lambda: stub.ModelConfig(config))[0] is code


def test_an_error_on_a_stream_answers_its_own_request_only(stub: Stub) -> None:
    bad = raw_image_request()
    bad.inputs[0].datatype = "FP32"
    bad.id = "bad"
    answers = list(stub.ModelStreamInfer(iter([bad, raw_image_request(), bad])))
    assert [bool(one.error_message) for one in answers] == [True, False, True]
    assert answers[0].infer_response.id == "bad"
    assert "datatype" in answers[0].error_message
    assert answers[1].infer_response.outputs


def test_a_stream_marks_the_final_response_for_those_who_ask(stub: Stub) -> None:
    request = raw_image_request()
    request.parameters["triton_enable_empty_final_response"].bool_param = True
    marked, plain = stub.ModelStreamInfer(iter([request, raw_image_request()]))
    assert marked.infer_response.parameters["triton_final_response"].bool_param
    assert "triton_final_response" not in plain.infer_response.parameters


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


def test_statistics_add_up(pets: Path) -> None:
    with running_server(pets) as client:
        stub = Stub(client.channel)
        assert statistics(stub).inference_count == 0
        for rows in (1, 1, 20):
            stub.ModelInfer(raw_image_request(rows))
        client.classify(png(), png(), model="pets")
        code_of(lambda: stub.ModelInfer(pb.ModelInferRequest(model_name="pets")))
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


@pytest.fixture(scope="module")
def waiting_server(pets: Path) -> Iterator[Client]:
    """A server where a lone request waits long for company, and little else may wait."""
    with running_server(
        pets, max_queue_delay_seconds=30.0, max_queue_size=4, max_images_per_request=4
    ) as client:
        yield client


def test_timeout_is_honoured(waiting_server: Client) -> None:
    request = raw_image_request()
    request.parameters["timeout"].int64_param = 50_000
    code, _ = code_of(lambda: Stub(waiting_server.channel).ModelInfer(request))
    assert code is grpc.StatusCode.DEADLINE_EXCEEDED


def test_cancellation_leaves_the_queue_and_is_counted(waiting_server: Client) -> None:
    stub = Stub(waiting_server.channel)
    before = statistics(stub)
    call = stub.ModelInfer.future(raw_image_request())
    queued = 'convd_queue_rows{model="pets",version="1"} 1.0'
    wait_until(lambda: queued in waiting_server.get("/metrics")[1])
    call.cancel()  # type: ignore[no-untyped-call]
    cancelled = before.response_stats["0"].cancel.count + 1
    wait_until(lambda: statistics(stub).response_stats["0"].cancel.count == cancelled)
    assert statistics(stub).execution_count == before.execution_count


def test_a_full_queue_refuses(waiting_server: Client) -> None:
    stub = Stub(waiting_server.channel)
    waiting = stub.ModelInfer.future(raw_image_request(rows=4))
    queued = 'convd_queue_rows{model="pets",version="1"} 4.0'
    wait_until(lambda: queued in waiting_server.get("/metrics")[1])
    code, _ = code_of(lambda: stub.ModelInfer(raw_image_request()))
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    waiting.cancel()  # type: ignore[no-untyped-call]


def test_priority_is_taken(stub: Stub) -> None:
    for priority in (0, 1, 2, 2**64 - 1):
        request = raw_image_request()
        request.parameters["priority"].uint64_param = priority
        assert stub.ModelInfer(request).outputs


def test_gzip_both_ways(server: Client) -> None:
    metadata = (("x-response-compression", "gzip"),)
    request = raw_image_request()
    request.id = "a" * 10_000
    address = f"127.0.0.1:{server.grpc_port}"
    options = [("grpc.max_receive_message_length", 1000)]
    with grpc.insecure_channel(address, options) as channel:
        stub = Stub(channel)
        gzip = grpc.Compression.Gzip
        # The client checks its limit on both sides of decompression, and so tells what it got.
        assert "Received message larger" in code_of(lambda: stub.ModelInfer(request))[1]
        packed = code_of(lambda: stub.ModelInfer(request, compression=gzip, metadata=metadata))
        assert "Decompressed message larger" in packed[1]
    with grpc.insecure_channel(address) as channel:
        stub = Stub(channel)
        answer = stub.ModelInfer(request, compression=gzip, metadata=metadata)
        assert answer.id == request.id


def test_message_limit_holds_for_what_comes_out_of_gzip(pets: Path) -> None:
    with running_server(pets, max_message_bytes=100_000) as client:
        stub = Stub(client.channel)
        request = raw_image_request()
        request.id = "a" * 50_000
        assert stub.ModelInfer(request).id == request.id
        request.id = "a" * 200_000
        for compression in (None, grpc.Compression.Gzip):
            code, _ = code_of(lambda: stub.ModelInfer(request, compression=compression))  # noqa: B023
            assert code is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_messages_over_four_mebibytes_pass_by_default(stub: Stub) -> None:
    request = raw_image_request()
    request.id = "a" * (5 * 1024 * 1024)
    with pytest.raises(grpc.RpcError) as refused:
        stub.ModelInfer(request)
    # It is this client's own limit that the answer meets.
    assert "CLIENT: Received message larger than max" in str(refused.value)


def test_concurrent_callers_get_their_own_rows(stub: Stub) -> None:
    expected = [probabilities(stub.ModelInfer(_shifted(shift))) for shift in range(8)]
    failures: list[int] = []

    def ask(shift: int) -> None:
        for _ in range(20):
            found = probabilities(stub.ModelInfer(_shifted(shift)))
            if not np.allclose(found, expected[shift], atol=1e-6):
                failures.append(shift)

    threads = [threading.Thread(target=ask, args=(shift,)) for shift in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def _shifted(shift: int) -> pb.ModelInferRequest:
    request = raw_image_request()
    request.raw_input_contents[0] = np.roll(pixels(), shift, axis=-1).tobytes()
    return request


def test_convds_own_protocol_sees_the_same_models(server: Client) -> None:
    (model,) = server.stub.ListModels(convd_pb.ListModelsRequest()).models
    assert (model.name, model.version) == ("pets", 1)


def test_a_new_version_answers_by_name_and_by_number(tmp_path: Path) -> None:
    publish_tiny(tmp_path)
    with running_server(tmp_path) as client:
        stub = Stub(client.channel)
        assert stub.ModelInfer(raw_image_request()).model_version == "1"
        publish_tiny(tmp_path, seed=1)
        wait_until(lambda: stub.ModelInfer(raw_image_request()).model_version == "2")
        wait_until(
            lambda: not stub.ModelReady(pb.ModelReadyRequest(name="pets", version="1")).ready
        )
        assert list(stub.ModelMetadata(pb.ModelMetadataRequest(name="pets")).versions) == ["2"]
        code, _ = code_of(lambda: stub.ModelInfer(with_version("1")))
        assert code is grpc.StatusCode.UNAVAILABLE
