"""The Open Inference Protocol over HTTP: the same answers and refusals as over gRPC."""

import base64
import gzip
import json
import zlib
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest

from convd.protos.inference import grpc_service_pb2 as pb
from convd.protos.inference.grpc_service_pb2_grpc import GRPCInferenceServiceStub
from convd.service.calls.status import STATUSES
from tests.service.protocols.open_inference.malformed import MALFORMED
from tests.service.protocols.open_inference.requests import (
    pixels,
    png,
    raw_encoded_request,
    raw_image_request,
)
from tests.service.web.bodies import binary_body, json_body
from tests.support import Client, http_request, running_server
from tests.tiny_artifact import publish_tiny

INFER = "/v2/models/pets/infer"
HTTP_OF = dict(STATUSES.values())


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    root = tmp_path_factory.mktemp("repository")
    publish_tiny(root)
    with running_server(root, allow_repository_control=True) as client:
        yield client


@pytest.fixture(scope="module")
def stub(server: Client) -> GRPCInferenceServiceStub:
    return GRPCInferenceServiceStub(server.channel)


def ask(
    server: Client, path: str, body: object = None, method: str = "", **headers: str
) -> tuple[int, Any]:
    content = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    method = method or ("GET" if content is None else "POST")
    status, _, answer = http_request(server.http_port, method, path, content, **headers)
    return status, json.loads(answer)


def infer(server: Client, request: pb.ModelInferRequest, **headers: str) -> tuple[int, Any]:
    body, size = binary_body(request)
    return ask(server, INFER, body, Inference_Header_Content_Length=str(size), **headers)


def test_health_and_descriptions(server: Client, stub: GRPCInferenceServiceStub) -> None:
    assert ask(server, "/v2/health/live") == (200, {"live": True})
    assert ask(server, "/v2/health/ready") == (200, {"ready": True})
    status, metadata = ask(server, "/v2")
    assert (status, metadata["name"]) == (200, "convd")
    assert "binary_tensor_data" in metadata["extensions"]
    for path in ("/v2/models/pets", "/v2/models/pets/versions/1"):
        status, model = ask(server, path)
        expected = stub.ModelMetadata(pb.ModelMetadataRequest(name="pets"))
        assert (status, model["name"], model["versions"]) == (200, "pets", ["1"])
        assert [one["shape"] for one in model["inputs"]] == [
            list(one.shape) for one in expected.inputs
        ]
        assert ask(server, f"{path}/ready") == (200, {"name": "pets", "ready": True})
        status, config = ask(server, f"{path}/config")
        assert (status, config["max_batch_size"], config["input"][0]["dims"]) == (200, 8, [4, 6, 3])
        assert config["input"][0]["format"] == "FORMAT_NHWC"
        assert ask(server, f"{path}/stats")[1]["model_stats"][0]["name"] == "pets"
    assert ask(server, "/v2/models/pets/versions/7/ready")[0] == 503
    assert ask(server, "/v2/models/nobody/ready")[0] == 503
    assert ask(server, "/v2/models/nobody")[0] == 404


def test_statistics_count_what_came_over_http(server: Client) -> None:
    def count() -> int:
        _, answer = ask(server, "/v2/models/stats")
        number = answer["model_stats"][0]["inference_stats"]["success"]["count"]
        assert isinstance(number, int)
        return number

    before = count()
    assert infer(server, raw_image_request())[0] == 200
    assert count() == before + 1


def test_binary_data_in_and_out_is_bit_for_bit_that_of_grpc(
    server: Client, stub: GRPCInferenceServiceStub
) -> None:
    for request in (raw_image_request(3), raw_encoded_request(png(), png())):
        expected = stub.ModelInfer(request)
        body, size = binary_body(request, binary_output=True)
        status, headers, answer = http_request(
            server.http_port, "POST", INFER, body, Inference_Header_Content_Length=str(size)
        )
        assert (status, headers["Content-Type"]) == (200, "application/octet-stream")
        header = int(headers["Inference-Header-Content-Length"])
        document = json.loads(answer[:header])
        assert [one["name"] for one in document["outputs"]] == ["probabilities", "logits"]
        sizes = [one["parameters"]["binary_data_size"] for one in document["outputs"]]
        assert sizes == [len(one) for one in expected.raw_output_contents]
        assert answer[header:] == b"".join(expected.raw_output_contents)


def test_json_in_and_out_gives_the_same_numbers(
    server: Client, stub: GRPCInferenceServiceStub
) -> None:
    request = raw_image_request(2)
    expected = np.frombuffer(stub.ModelInfer(request).raw_output_contents[0], "<f4")
    for body in (json_body(request), json_body(request, nested=True)):
        status, answer = ask(server, INFER, body)
        output = answer["outputs"][0]
        assert (status, answer["model_version"], answer["id"]) == (200, "1", "7")
        assert (output["name"], output["datatype"], output["shape"]) == (
            "probabilities", "FP32", [2, 3],
        )  # fmt: skip
        assert (np.array(output["data"], np.float32) == expected).all()
        assert answer["parameters"]["execution_provider"] == "CPUExecutionProvider"


def test_an_image_file_as_base64(server: Client) -> None:
    tensor = {
        "name": "encoded_image",
        "datatype": "BYTES",
        "shape": [1],
        "data": [base64.b64encode(png()).decode()],
        "parameters": {"content_type": "base64"},
    }
    status, answer = ask(server, INFER, {"inputs": [tensor]})
    assert (status, answer["outputs"][0]["shape"]) == (200, [1, 3])
    tensor["data"] = ["no base64"]
    status, refusal = ask(server, INFER, {"inputs": [tensor]})
    assert (status, refusal["code"]) == (400, "INVALID_ARGUMENT")


def test_classification_with_labels(server: Client, stub: GRPCInferenceServiceStub) -> None:
    request = raw_image_request()
    request.outputs.add(name="probabilities").parameters["classification"].int64_param = 2
    status, answer = ask(server, INFER, json_body(request))
    raw = stub.ModelInfer(request).raw_output_contents[0]
    [output] = answer["outputs"]
    assert (status, output["datatype"], output["shape"]) == (200, "BYTES", [1, 2])
    assert all(one.encode() in raw for one in output["data"])


def is_sayable(request: pb.ModelInferRequest) -> bool:
    """Whether JSON can say it, and so wrongly."""
    parameters = [
        one.WhichOneof("parameter_choice")
        for given in (
            request.parameters,
            *(tensor.parameters for tensor in request.inputs),
            *(tensor.parameters for tensor in request.outputs),
        )
        for one in given.values()
    ]
    return (
        len(request.inputs) == len(request.raw_input_contents)
        and not any(one.HasField("contents") for one in request.inputs)
        and not {None, "uint64_param"} & set(parameters)
    )


@pytest.mark.parametrize("name", [one for one in MALFORMED if is_sayable(MALFORMED[one][0])])
def test_a_malformed_request_gets_the_refusal_of_grpc(
    server: Client, stub: GRPCInferenceServiceStub, name: str
) -> None:
    request, _ = MALFORMED[name]
    request.model_name = "pets"
    with pytest.raises(grpc.RpcError) as caught:
        stub.ModelInfer(request)
    status, refusal = infer(server, request)
    assert status == HTTP_OF[caught.value.code()]
    assert refusal["detail"] == refusal["error"] == caught.value.details()


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", "not a JSON document"),
        (b"nonsense", "not a JSON document"),
        (b"[1]", "not a JSON object"),
        (b'{"inputs": 7}', "'inputs' is not a list of objects"),
        (b'{"inputs": [7]}', "'inputs' is not a list of objects"),
        (b'{"id": 7}', "'id' of the request is not a string"),
        (b'{"parameters": []}', "'parameters' of the request is not an object"),
        (b'{"parameters": {"a": [1]}}', "parameter 'a' of the request"),
        (b'{"parameters": {"priority": 1e400}}', "wrong type"),
        (b'{"parameters": {"priority": NaN}}', "not a JSON document"),
        (b'{"parameters": {"priority": 99999999999999999999}}', "parameter 'priority'"),
        (b'{"parameters": {"binary_data_output": 1}}', "is not a boolean"),
        (b'{"inputs": [{"name": "image", "datatype": "UINT8"}]}', "'shape' of input 0"),
        (b'{"inputs": [{"shape": [1.5]}]}', "'shape' of input 0"),
        (b'{"inputs": [{"shape": [true]}]}', "'shape' of input 0"),
        (
            b'{"inputs": [{"name": "image", "datatype": "UINT8", "shape": [1], "data": [256]}]}',
            "not a whole number from 0 to 255",
        ),
        (
            b'{"inputs": [{"name": "image", "datatype": "UINT8", "shape": [1], "data": [[1], 2]}]}',
            "side by side",
        ),
        (
            b'{"inputs": [{"name": "encoded_image", "datatype": "BYTES", "shape": [1], '
            b'"data": [7]}]}',
            "not a string",
        ),
        (
            b'{"inputs": [{"shape": [1], "data": [1], "parameters": {"binary_data_size": 1}}]}',
            "both 'data' and 'binary_data_size'",
        ),
        (
            b'{"inputs": [{"shape": [1], "parameters": {"binary_data_size": 5}}]}',
            "claims 5 bytes of binary data, but 0 bytes of the body are left",
        ),
        (b"[" * 100_000, "not a JSON document"),
        (b'{"a":' * 100_000, "not a JSON document"),
        (b'{"id": "\\ud800"}', "not a JSON document"),
        (b'{"id": "\xff"}', "not a JSON document"),
        (b'{"id": ' + b"9" * 100_000 + b"}", ""),
        (json.dumps({"inputs": [{}] * 100}).encode(), "100 inputs"),
    ],
)
def test_what_is_no_request_is_refused_kindly(server: Client, body: bytes, text: str) -> None:
    status, refusal = ask(server, INFER, body)
    assert (status, refusal["code"]) == (400, "INVALID_ARGUMENT"), refusal
    assert text in refusal["error"]
    assert len(refusal["error"]) < 400


@pytest.mark.parametrize("length", ["0", "-1", "x", "9" * 50, "1.5", "²"])
def test_a_wrong_header_length_is_refused(server: Client, length: str) -> None:
    body, _ = binary_body(raw_image_request())
    status, refusal = ask(
        server, INFER, body, Inference_Header_Content_Length=length.encode().decode("latin-1")
    )
    assert (status, refusal["code"]) == (400, "INVALID_ARGUMENT")
    assert "Inference-Header-Content-Length" in refusal["error"]


def test_binary_data_that_nobody_claims_is_refused(server: Client) -> None:
    body, size = binary_body(raw_image_request())
    status, refusal = ask(server, INFER, body + b"x", Inference_Header_Content_Length=str(size))
    assert status == 400
    assert "1 bytes of binary data that no input claims" in refusal["error"]


@pytest.mark.parametrize(
    ("encoding", "compress"), [("gzip", gzip.compress), ("deflate", zlib.compress)]
)
def test_a_compressed_body_is_taken_and_bounded(
    server: Client, encoding: str, compress: Any
) -> None:
    body, size = binary_body(raw_image_request())
    sent = {"Content_Encoding": encoding, "Inference_Header_Content_Length": str(size)}
    assert ask(server, INFER, compress(body), **sent)[0] == 200
    for damaged in (body, compress(body)[:-3], compress(body) + b"x", b""):
        status, refusal = ask(server, INFER, damaged, method="POST", **sent)
        assert (status, refusal["code"]) == (400, "INVALID_ARGUMENT")
    bomb = compress(bytes(65 * 1024 * 1024))
    status, refusal = ask(server, INFER, bomb, **sent)
    assert (status, "inflates to more than" in refusal["error"]) == (400, True)


def test_an_unknown_encoding_is_refused(server: Client) -> None:
    status, refusal = ask(server, INFER, b"x", Content_Encoding="br")
    assert (status, refusal["code"]) == (501, "UNIMPLEMENTED")


def test_a_deadline_that_cannot_be_met_is_refused(server: Client) -> None:
    status, refusal = infer(server, raw_image_request(), X_Request_Timeout="0.000001")
    assert (status, refusal["code"]) == (504, "DEADLINE_EXCEEDED")
    for wrong in ("soon", "-1", "nan", "inf", "0", "1e9"):
        status, refusal = infer(server, raw_image_request(), X_Request_Timeout=wrong)
        assert (status, refusal["code"]) == (400, "INVALID_ARGUMENT")
        assert "X-Request-Timeout" in refusal["detail"]
    assert infer(server, raw_image_request(), X_Request_Timeout="20")[0] == 200


def test_the_repository_can_be_listed_and_models_unloaded_and_loaded(server: Client) -> None:
    status, index = ask(server, "/v2/repository/index", {})
    assert (status, index) == (
        200, [{"name": "pets", "version": "1", "state": "READY", "reason": ""}],
    )  # fmt: skip
    load, unload = (f"/v2/repository/models/pets/{verb}" for verb in ("load", "unload"))
    assert ask(server, unload, {"parameters": {"unload_dependents": False}}) == (200, {})
    assert ask(server, "/v2/models/pets/ready")[0] == 503
    assert ask(server, load, b"", method="POST") == (200, {})
    assert ask(server, "/v2/models/pets/ready")[0] == 200
    status, refusal = ask(server, load, {"parameters": {"config": "{}"}})
    assert (status, "load it without parameters" in refusal["error"]) == (400, True)


def test_log_and_trace_settings(server: Client) -> None:
    status, before = ask(server, "/v2/logging")
    assert (status, isinstance(before["log_info"], bool)) == (200, True)
    assert ask(server, "/v2/logging", {"log_verbose_level": before["log_verbose_level"]})[0] == 200
    assert ask(server, "/v2/logging", {"log_info": "yes"})[0] == 400
    assert ask(server, "/v2/trace/setting") == (200, {"trace_level": ["OFF"]})


def test_shared_memory_is_refused(server: Client) -> None:
    for kind in ("system", "cuda"):
        status, refusal = ask(server, f"/v2/{kind}sharedmemory/status")
        assert (status, refusal["code"]) == (501, "UNIMPLEMENTED")
        assert ask(server, f"/v2/{kind}sharedmemory/region/a/register", {})[0] == 501
    tensor = {
        "name": "image", "datatype": "UINT8", "shape": [1, 4, 6, 3],
        "parameters": {"shared_memory_region": "a", "shared_memory_byte_size": 72},
    }  # fmt: skip
    assert ask(server, INFER, {"inputs": [tensor]})[0] == 501


def test_a_request_id_comes_back_and_ends_in_no_header_that_breaks(server: Client) -> None:
    body = json_body(raw_image_request())
    for sent, returned in (("mine-7", "mine-7"), ("x" * 200, None), ("\xe9", None)):
        _, headers, _ = http_request(server.http_port, "POST", INFER, body, X_Request_Id=sent)
        assert headers["X-Request-Id"]
        if returned:
            assert headers["X-Request-Id"] == returned


def test_requests_run_side_by_side(server: Client) -> None:
    """More than there are threads: each is answered, with its own rows."""
    from concurrent.futures import ThreadPoolExecutor

    def one(index: int) -> Any:
        request = raw_image_request()
        request.raw_input_contents[0] = pixels(60)[index].tobytes()
        return infer(server, request)[1]["outputs"][0]["data"]

    with ThreadPoolExecutor(30) as pool:
        together = list(pool.map(one, range(60)))
    assert np.allclose(together, [one(index) for index in range(60)], atol=1e-6)
