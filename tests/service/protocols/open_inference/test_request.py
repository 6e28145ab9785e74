"""Requests are taken apart as they were put together, and malformed ones name the field."""

import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convd.artifact.graph_contract import OUTPUTS, GraphTensor
from convd.protos.inference import grpc_service_pb2 as pb
from convd.service.errors import InvalidRequestError, ServiceError, UnsupportedError
from convd.service.protocols.open_inference.request import InferRequest, RequestReader, read_choice
from tests.service.protocols.open_inference.malformed import (
    MALFORMED,
    MAX_ROWS,
    Parameter,
    on_image,
    parameter,
    wanted,
)
from tests.service.protocols.open_inference.requests import (
    pixels,
    raw_encoded_request,
    raw_image_request,
    typed_encoded_request,
    typed_image_request,
)

Make = Callable[..., pb.ModelInferRequest]


def check_row_count(rows: int) -> None:
    if rows > MAX_ROWS:
        raise InvalidRequestError(f"{rows} rows are over the limit of {MAX_ROWS}")


reader = RequestReader(OUTPUTS._asdict(), check_row_count)


def read(request: pb.ModelInferRequest) -> InferRequest:
    """Read it twice: what is kept of the first time must say the same."""
    first, second = reader.read(request), reader.read(request)
    assert first[1:] == second[1:]
    np.testing.assert_array_equal(first.images, second.images)
    return second


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


@settings(deadline=None)
@given(st.lists(st.binary(max_size=40), min_size=1, max_size=8))
def test_any_elements_survive_the_raw_form(elements: list[bytes]) -> None:
    assert read(raw_encoded_request(*elements)).images == elements


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
    assert list(read(request_).wanted.outputs.items()) == list(outputs.items())


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


@pytest.mark.parametrize(
    ("text", "version"),
    [("", (None, None)), ("12", (12, None)), ("stable", (None, "stable"))],
)
def test_versions(text: str, version: tuple[int | None, str | None]) -> None:
    assert read_choice("pets", text) == ("pets", *version)


@pytest.mark.parametrize(
    "text", ["0", "-1", "1abc", "-abc", " 1", "1.0", "01", "٣", "9" * 19, "x" * 20_000, "1\n"]
)
def test_a_version_that_is_neither_number_nor_label_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequestError, match="version") as refused:
        read_choice("pets", text)
    assert len(str(refused.value)) < 200
    assert str(refused.value).isprintable()


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_request_is_refused_by_name(name: str) -> None:
    request, text = MALFORMED[name]
    with pytest.raises(InvalidRequestError, match=text):
        read(request)


@pytest.mark.parametrize("name", MALFORMED)
def test_nothing_is_allocated_by_what_a_request_claims(name: str) -> None:
    request, _ = MALFORMED[name]
    sent_bytes = request.ByteSize()
    tracemalloc.start()
    try:
        with pytest.raises(InvalidRequestError):
            read(request)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 20_000 + 8 * sent_bytes


def test_the_same_output_with_different_classifications_is_refused() -> None:
    request = wanted("logits", logits=2)
    request.outputs.add(name="logits")
    with pytest.raises(InvalidRequestError, match="requested twice"):
        read(request)


def test_what_a_model_returns_besides_its_classes_has_no_classification() -> None:
    outputs = {**OUTPUTS._asdict(), "map": GraphTensor("map", np.float32, ("height", "width"))}

    def read_outputs(request: pb.ModelInferRequest) -> object:
        return RequestReader(outputs, check_row_count).read(request).wanted.outputs

    assert read_outputs(wanted()) == {"probabilities": None, "logits": None, "map": None}
    assert read_outputs(wanted("map", "logits", logits=2)) == {"logits": 2, "map": None}
    with pytest.raises(InvalidRequestError, match="output 'map' has no classes"):
        read_outputs(wanted("map", map=2))
    with pytest.raises(InvalidRequestError, match="no output 'map'; the outputs are: prob"):
        read(wanted("map"))


@pytest.mark.parametrize("place", ["input", "output"])
def test_shared_memory_is_refused_with_the_reason(place: str) -> None:
    request = raw_image_request()
    tensor = request.inputs[0] if place == "input" else request.outputs.add(name="logits")
    tensor.parameters["shared_memory_region"].string_param = "region"
    with pytest.raises(UnsupportedError, match="shared memory is not supported"):
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
