"""Requests are taken apart as they were put together, and malformed ones name the field."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protos.inference import grpc_service_pb2 as pb
from service.errors import InvalidRequestError, ServiceError, UnsupportedError
from service.rpc.open_inference.request import InferRequest, read_request, read_version
from service.rpc.open_inference.tensors import raw_bytes_tensor
from tests.service.rpc.open_inference.requests import (
    IMAGE_SHAPE,
    pixels,
    raw_encoded_request,
    raw_image_request,
    typed_encoded_request,
    typed_image_request,
)

Contents = pb.InferTensorContents
Parameter = pb.InferParameter
Make = Callable[..., pb.ModelInferRequest]

MAX_ROWS = 8


def check_row_count(rows: int) -> None:
    if rows > MAX_ROWS:
        raise InvalidRequestError(f"{rows} rows are over the limit of {MAX_ROWS}")


def read(request: pb.ModelInferRequest) -> InferRequest:
    return read_request(request, IMAGE_SHAPE, check_row_count)


@pytest.mark.parametrize("make", [raw_image_request, typed_image_request])
@pytest.mark.parametrize("rows", [1, 3])
def test_pixels(make: Make, rows: int) -> None:
    images = read(make(rows)).images
    assert isinstance(images, np.ndarray)
    np.testing.assert_array_equal(images, pixels(rows))


@pytest.mark.parametrize("make", [raw_encoded_request, typed_encoded_request])
def test_image_files(make: Make) -> None:
    assert read(make(b"one", b"", b"three")).images == [b"one", b"", b"three"]


def test_image_files_need_no_second_dimension() -> None:
    request = raw_encoded_request(b"one", b"two")
    request.inputs[0].shape[:] = [2]
    assert read(request).images == [b"one", b"two"]


def test_pixels_come_before_image_files() -> None:
    request = raw_encoded_request(b"noise")
    request.MergeFrom(raw_image_request())
    parsed = read(request)
    assert isinstance(parsed.images, np.ndarray)
    assert parsed.ignored_input == "encoded_image"
    assert read(raw_image_request()).ignored_input == ""


@given(st.lists(st.binary(max_size=40), min_size=1, max_size=MAX_ROWS))
def test_any_elements_survive_the_raw_form(elements: list[bytes]) -> None:
    assert read(raw_encoded_request(*elements)).images == elements


def wanted(*names: str, **classes: int) -> pb.ModelInferRequest:
    request = raw_image_request()
    for name in names:
        output = request.outputs.add(name=name)
        if name in classes:
            output.parameters["classification"].int64_param = classes[name]
    return request


@pytest.mark.parametrize(
    ("request_", "outputs"),
    [
        (wanted(), {"probabilities": None, "logits": None}),
        (wanted("logits"), {"logits": None}),
        (wanted("logits", "probabilities"), {"probabilities": None, "logits": None}),
        (wanted("logits", "logits", logits=2), {"logits": 2}),
        (
            wanted("logits", "probabilities", logits=2**62, probabilities=1),
            {"probabilities": 1, "logits": 2**62},
        ),
    ],
)
def test_outputs_come_in_the_models_order(
    request_: pb.ModelInferRequest, outputs: dict[str, int | None]
) -> None:
    assert list(read(request_).outputs.items()) == list(outputs.items())


def test_priority_and_timeout() -> None:
    request = raw_image_request()
    assert (read(request).priority, read(request).timeout_seconds) == (0, None)
    request.parameters["priority"].uint64_param = 1
    request.parameters["timeout"].int64_param = 1500
    assert (read(request).priority, read(request).timeout_seconds) == (1, 0.0015)
    request.parameters["priority"].int64_param = 2
    request.parameters["timeout"].uint64_param = 0
    assert (read(request).priority, read(request).timeout_seconds) == (2, None)


def test_unknown_parameters_of_known_types_are_ignored() -> None:
    request = raw_image_request()
    request.parameters["a"].string_param = "x"
    request.parameters["b"].bool_param = True
    request.parameters["c"].int64_param = -1
    request.parameters["d"].double_param = 0.5
    request.inputs[0].parameters["e"].string_param = "x"
    read(request)


@pytest.mark.parametrize(("text", "version"), [("", None), ("1", 1), ("12", 12)])
def test_versions(text: str, version: int | None) -> None:
    assert read_version(text) == version


@pytest.mark.parametrize(
    "text", ["0", "-1", "1abc", "abc", " 1", "1.0", "01", "٣", "9" * 19, "x" * 20_000, "1\n"]
)
def test_a_version_that_is_no_positive_number_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequestError, match="version") as refused:
        read_version(text)
    assert len(str(refused.value)) < 200
    assert str(refused.value).isprintable()


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
    "the same input twice": (twice(raw_image_request()), "'image' is there twice"),
    "inputs of different rows": (different_rows(), "1 rows and input 'encoded_image' has 2"),
    "wrong datatype": (on_image(datatype="FP32"), "'image' has datatype 'FP32'"),
    "unknown datatype": (on_image(datatype="INT4"), "'image' has datatype 'INT4'"),
    "datatype in lower case": (on_image(datatype="uint8"), "'image' has datatype 'uint8'"),
    "pixels as image files": (on_image(name="encoded_image"), "'encoded_image' has datatype"),
    "rank too low": (on_image(shape=[1, 4, 6]), "shape of 3 dimensions"),
    "rank too high": (on_image(shape=[1, 4, 6, 3, 1]), "shape of 5 dimensions"),
    "no shape": (on_image(shape=[]), "shape of 0 dimensions"),
    "a million dimensions": (on_image(shape=[1] * 1_000_000), "1000000 dimensions"),
    "wrong dimension": (on_image(shape=[1, 4, 7, 3]), r"shape \[1, 4, 7, 3\]"),
    "negative dimension": (on_image(shape=[1, -4, -6, 3]), r"shape \[1, -4, -6, 3\]"),
    "zero rows": (on_image(shape=[0, 4, 6, 3], raw=[b""]), "0 rows"),
    "zero rows with a row's bytes": (on_image(shape=[0, 4, 6, 3]), "0 rows"),
    "negative rows": (on_image(shape=[-(2**63), 4, 6, 3]), "-9223372036854775808 rows"),
    "rows beyond 32 bits": (on_image(shape=[2**32 + 1, 4, 6, 3]), "over the limit"),
    "product beyond 64 bits": (on_image(shape=[2**62, 4, 6, 3]), "over the limit"),
    "dimensions beyond 64 bits": (on_image(shape=[1, 2**62, 2**62, 3]), "'image' has shape"),
    "too many rows": (raw_image_request(9), "over the limit of 8"),
    "raw too short": (on_image(raw=[bytes(VALUES - 1)]), "71 raw bytes, but its shape needs 72"),
    "raw too long": (on_image(raw=[bytes(VALUES + 1)]), "73 raw bytes"),
    "raw empty": (on_image(raw=[b""]), "0 raw bytes"),
    "too many raw entries": (on_image(raw=[bytes(VALUES)] * 2), "2 entries for 1 inputs"),
    "neither raw nor contents": (on_image(raw=[]), "'image' has no elements"),
    "raw and contents": (both_raw_and_contents(), "contents beside raw_input_contents"),
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
    "bytes after the elements": (on_encoded(raw_bytes_tensor([b"x", b"y"])), "5 raw bytes after"),
    "billions of elements": (on_encoded(b"", rows=2**40), "over the limit"),
    "unknown output": (wanted("scores"), "no output 'scores'"),
    "empty output name": (wanted(""), "no output ''"),
    "an input as output": (wanted("image"), "no output 'image'"),
    "classification of 0": (wanted("logits", logits=0), "'classification' of output 'logits' is 0"),
    "classification below 0": (wanted("logits", logits=-1), "is -1"),
    "classification as text": (
        output_parameter("classification", Parameter(string_param="1")),
        "must be set as int64_param",
    ),
    "classification unsigned": (
        output_parameter("classification", Parameter(uint64_param=1)),
        "int64_param",
    ),
    "priority below 0": (parameter("priority", Parameter(int64_param=-1)), "'priority' is -1"),
    "priority as text": (
        parameter("priority", Parameter(string_param="1")),
        "'priority' must be set",
    ),
    "timeout below 0": (parameter("timeout", Parameter(int64_param=-1)), "'timeout' is -1"),
    "timeout as text": (parameter("timeout", Parameter(string_param="1")), "'timeout' must be set"),
    "parameter of no known type": (parameter("mode", Parameter()), "'mode' has no value"),
    "unknown unsigned parameter": (
        parameter("mode", Parameter(uint64_param=1)),
        "'mode' is set as uint64",
    ),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_request_is_refused_by_name(name: str) -> None:
    request, text = MALFORMED[name]
    with pytest.raises(InvalidRequestError, match=text):
        read(request)


def test_the_same_output_with_different_classifications_is_refused() -> None:
    request = wanted("logits", logits=2)
    request.outputs.add(name="logits")
    with pytest.raises(InvalidRequestError, match="asked for twice"):
        read(request)


@pytest.mark.parametrize("place", ["input", "output"])
def test_shared_memory_is_refused_with_the_reason(place: str) -> None:
    request = raw_image_request()
    tensor = request.inputs[0] if place == "input" else request.outputs.add(name="logits")
    tensor.parameters["shared_memory_region"].string_param = "region"
    with pytest.raises(UnsupportedError, match="shared memory is not offered"):
        read(request)


HOSTILE = "\x1b[31m\r\n" + "é" * 20_000


@pytest.mark.parametrize(
    "request_",
    [
        on_image(name=HOSTILE),
        on_image(datatype=HOSTILE),
        wanted(HOSTILE),
        parameter(HOSTILE, Parameter()),
        parameter(HOSTILE, Parameter(uint64_param=1)),
    ],
)
def test_what_the_caller_sent_is_quoted_short_and_clean(request_: pb.ModelInferRequest) -> None:
    with pytest.raises(ServiceError) as refused:
        read(request_)
    assert len(str(refused.value)) < 300
    assert str(refused.value).isprintable()
