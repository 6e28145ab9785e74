"""Inference by this protocol, over a real server on loopback."""

import re
import threading
from pathlib import Path

import grpc
import numpy as np
import pytest
from numpy.typing import NDArray

from convd.protos.inference import grpc_service_pb2 as pb
from convd.protos.inference.grpc_service_pb2_grpc import GRPCInferenceServiceStub
from tests.service.protocols.open_inference.malformed import MALFORMED
from tests.service.protocols.open_inference.requests import (
    LABELS,
    pixels,
    png,
    raw_encoded_request,
    raw_image_request,
)
from tests.support import code_of, running_server, wait_until
from tests.tiny_artifact import publish_tiny

Stub = GRPCInferenceServiceStub


def probabilities(response: pb.ModelInferResponse) -> NDArray[np.float32]:
    assert response.outputs[0].name == "probabilities"
    return np.frombuffer(response.raw_output_contents[0], "<f4").reshape(response.outputs[0].shape)


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
    assert "image 1, counted from 0: " in text


def with_model(name: str) -> pb.ModelInferRequest:
    request = raw_image_request()
    request.model_name = name
    return request


def with_shape(*shape: int) -> pb.ModelInferRequest:
    request = raw_image_request()
    request.inputs[0].shape[:] = shape
    return request


def with_version(version: str) -> pb.ModelInferRequest:
    request = raw_image_request()
    request.model_version = version
    return request


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (with_version("2"), grpc.StatusCode.NOT_FOUND),
        (with_version("1abc"), grpc.StatusCode.INVALID_ARGUMENT),
        (with_model("fish"), grpc.StatusCode.NOT_FOUND),
        (with_model("x" * 20_000), grpc.StatusCode.NOT_FOUND),
        (with_model("\x00\r\n"), grpc.StatusCode.NOT_FOUND),
        (with_model(""), grpc.StatusCode.NOT_FOUND),
        (with_shape(1, 6, 4, 3), grpc.StatusCode.INVALID_ARGUMENT),
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


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_requests(stub: Stub, name: str) -> None:
    malformed, expected = MALFORMED[name]
    request = pb.ModelInferRequest()
    request.CopyFrom(malformed)
    request.model_name = "pets"
    code, text = code_of(lambda: stub.ModelInfer(request))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert re.search(expected, text)
    assert len(text) < 400


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


def test_priority_is_taken(stub: Stub) -> None:
    for priority in (0, 1, 2, 2**64 - 1):
        request = raw_image_request()
        request.parameters["priority"].uint64_param = priority
        assert stub.ModelInfer(request).outputs


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
