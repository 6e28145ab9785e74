"""Requests that must be refused, each with what its refusal has to say."""

from collections.abc import Sequence

from convd.protos.inference import grpc_service_pb2 as pb
from convd.service.protocols.open_inference.tensors import raw_bytes_tensor
from tests.service.protocols.open_inference.requests import (
    IMAGE_SHAPE,
    pixels,
    raw_encoded_request,
    raw_image_request,
    typed_image_request,
)

Contents = pb.InferTensorContents
Parameter = pb.InferParameter

MAX_ROWS = 256


def wanted(*names: str, **classes: int) -> pb.ModelInferRequest:
    request = raw_image_request()
    for name in names:
        output = request.outputs.add(name=name)
        if name in classes:
            output.parameters["classification"].int64_param = classes[name]
    return request


def on_image(
    *,
    name: str = "image",
    datatype: str = "UINT8",
    shape: Sequence[int] = (1, *IMAGE_SHAPE),
    raw: Sequence[bytes] = (pixels().tobytes(),),
) -> pb.ModelInferRequest:
    """A raw request, changed."""
    request = pb.ModelInferRequest(raw_input_contents=raw)
    request.inputs.add(name=name, datatype=datatype, shape=shape)
    return request


def on_encoded(raw: bytes, rows: int = 1) -> pb.ModelInferRequest:
    request = raw_encoded_request(b"x")
    request.inputs[0].shape[0] = rows
    request.raw_input_contents[0] = raw
    return request


def both_raw_and_contents() -> pb.ModelInferRequest:
    request = typed_image_request()
    request.raw_input_contents.append(pixels().tobytes())
    return request


def contents(elements: pb.InferTensorContents) -> pb.ModelInferRequest:
    request = typed_image_request()
    request.inputs[0].contents.CopyFrom(elements)
    return request


def output_parameter(name: str, value: pb.InferParameter) -> pb.ModelInferRequest:
    request = raw_image_request()
    request.outputs.add(name="logits").parameters[name].CopyFrom(value)
    return request


def parameter(name: str, value: pb.InferParameter) -> pb.ModelInferRequest:
    request = raw_image_request()
    request.parameters[name].CopyFrom(value)
    return request


def twice(request: pb.ModelInferRequest) -> pb.ModelInferRequest:
    request.MergeFrom(request)
    return request


def different_rows() -> pb.ModelInferRequest:
    request = raw_encoded_request(b"one", b"two")
    request.MergeFrom(raw_image_request())
    return request


VALUES = 4 * 6 * 3
MALFORMED = {
    "no inputs": (pb.ModelInferRequest(), "no inputs"),
    "unknown input": (on_image(name="picture"), "no input 'picture'"),
    "empty input name": (on_image(name=""), "no input ''"),
    "the same input twice": (twice(raw_image_request()), "'image' appears twice"),
    "inputs of different rows": (different_rows(), "1 rows and input 'encoded_image' has 2"),
    "wrong datatype": (on_image(datatype="FP32"), "'image' has datatype 'FP32'"),
    "unknown datatype": (on_image(datatype="INT4"), "'image' has datatype 'INT4'"),
    "datatype in lower case": (on_image(datatype="uint8"), "'image' has datatype 'uint8'"),
    "pixels as image files": (on_image(name="encoded_image"), "'encoded_image' has datatype"),
    "rank too low": (on_image(shape=[1, 4, 6]), "has 3 dimensions"),
    "rank too high": (on_image(shape=[1, 4, 6, 3, 1]), "has 5 dimensions"),
    "no shape": (on_image(shape=[]), "has 0 dimensions"),
    "a million dimensions": (on_image(shape=[1] * 1_000_000), "1000000 dimensions"),
    "wrong dimension": (on_image(shape=[1, 4, 7, 3]), r"72 raw bytes, but its shape needs 84"),
    "negative dimension": (on_image(shape=[1, -4, -6, 3]), r"shape \[1, -4, -6, 3\]: every dim"),
    "a dimension of zero": (on_image(shape=[1, 0, 6, 3], raw=[b""]), "at least 1"),
    "zero rows": (on_image(shape=[0, 4, 6, 3], raw=[b""]), "0 rows"),
    "zero rows with a row's bytes": (on_image(shape=[0, 4, 6, 3]), "0 rows"),
    "negative rows": (on_image(shape=[-(2**63), 4, 6, 3]), "-9223372036854775808 rows"),
    "rows beyond 32 bits": (on_image(shape=[2**32 + 1, 4, 6, 3]), "over the limit"),
    "product beyond 64 bits": (on_image(shape=[2**62, 4, 6, 3]), "over the limit"),
    "dimensions beyond 64 bits": (on_image(shape=[1, 2**62, 2**62, 3]), "its shape needs"),
    "too many rows": (raw_image_request(MAX_ROWS + 1), "over the limit of 256"),
    "raw too short": (on_image(raw=[bytes(VALUES - 1)]), "71 raw bytes, but its shape needs 72"),
    "raw too long": (on_image(raw=[bytes(VALUES + 1)]), "73 raw bytes"),
    "raw empty": (on_image(raw=[b""]), "0 raw bytes"),
    "too many raw entries": (on_image(raw=[bytes(VALUES)] * 2), "2 entries for 1 inputs"),
    "neither raw nor contents": (on_image(raw=[]), "'image' has no elements"),
    "raw and contents": (both_raw_and_contents(), "contents although the request has raw"),
    "too few values": (
        contents(Contents(uint_contents=[1] * 71)),
        "71 values in contents.uint_contents",
    ),
    "too many values": (
        contents(Contents(uint_contents=[1] * 73)),
        "73 values in contents.uint_contents",
    ),
    "values in the wrong field": (
        contents(Contents(int_contents=[1] * 72)),
        "contents.int_contents",
    ),
    "values in two fields": (
        contents(Contents(uint_contents=[1] * 72, fp32_contents=[1.0])),
        "contents.fp32_contents",
    ),
    "a value over 255": (contents(Contents(uint_contents=[300] + [1] * 71)), "the value 300"),
    "element that claims 4 GiB": (on_encoded(b"\xff\xff\xff\xffxx"), "claims 4294967295 bytes"),
    "element cut in its length": (on_encoded(b"\x01\x00"), "0 elements"),
    "element missing": (on_encoded(raw_bytes_tensor([b"x"]), rows=2), "1 elements"),
    "bytes after the elements": (
        on_encoded(raw_bytes_tensor([b"x", b"y"])),
        "5 extra raw bytes after",
    ),
    "billions of elements": (on_encoded(b"", rows=2**40), "over the limit"),
    "unknown output": (wanted("scores"), "no output 'scores'"),
    "empty output name": (wanted(""), "no output ''"),
    "an input as output": (wanted("image"), "no output 'image'"),
    "classification of 0": (wanted("logits", logits=0), "'classification' of output 'logits' is 0"),
    "classification below 0": (wanted("logits", logits=-1), "is -1"),
    "classification as text": (
        output_parameter("classification", Parameter(string_param="1")),
        "the wrong type: set int64_param",
    ),
    "classification unsigned": (
        output_parameter("classification", Parameter(uint64_param=1)),
        "int64_param",
    ),
    "priority below 0": (parameter("priority", Parameter(int64_param=-1)), "'priority' is -1"),
    "priority as text": (
        parameter("priority", Parameter(string_param="1")),
        "'priority' has the wrong type",
    ),
    "timeout below 0": (parameter("timeout", Parameter(int64_param=-1)), "'timeout' is -1"),
    "timeout as text": (
        parameter("timeout", Parameter(string_param="1")),
        "'timeout' has the wrong type",
    ),
    "parameter of no known type": (parameter("mode", Parameter()), "'mode' has no value"),
    "unknown unsigned parameter": (
        parameter("mode", Parameter(uint64_param=1)),
        "'mode' is set as uint64",
    ),
}
