"""Bodies of the Open Inference Protocol become the messages that gRPC would have received."""

import contextlib
import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convd.protos.inference import grpc_service_pb2 as pb
from convd.service.errors import InvalidRequestError, UnsupportedError
from convd.service.web.api.infer_body import json_size, read_infer
from convd.service.web.api.inflation import inflate
from convd.service.web.api.json_fields import JSON_FACTOR, read_document
from tests.service.web.bodies import binary_body, json_body

INT64 = st.integers(-(2**63), 2**63 - 1)
TEXT = st.text(max_size=8)
VALUES = st.one_of(st.booleans(), INT64, st.floats(allow_nan=False, allow_infinity=False), TEXT)
RESERVED = {"binary_data_size", "binary_data", "binary_data_output", "content_type"}
PARAMETERS = st.dictionaries(TEXT.filter(lambda name: name not in RESERVED), VALUES, max_size=3)
KEYS = st.one_of(
    st.sampled_from(
        ["id", "inputs", "outputs", "parameters", "name", "shape", "datatype", "data", *RESERVED]
    ),
    TEXT,
)
ANY_JSON = st.recursive(
    st.one_of(st.none(), VALUES, st.integers(), st.sampled_from(["UINT8", "BYTES", "image"])),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(KEYS, inner, max_size=4)),
    max_leaves=20,
)


def set_parameters(target: Any, given: dict[str, Any]) -> None:
    for name, value in given.items():
        kind = {bool: "bool", int: "int64", float: "double", str: "string"}[type(value)]
        setattr(target[name], f"{kind}_param", value)


@st.composite
def requests(draw: st.DrawFn) -> pb.ModelInferRequest:
    request = pb.ModelInferRequest(id=draw(TEXT))
    set_parameters(request.parameters, draw(PARAMETERS))
    for _ in range(draw(st.integers(0, 3))):
        tensor = request.inputs.add(
            name=draw(TEXT), datatype="UINT8", shape=draw(st.lists(INT64, max_size=4))
        )
        set_parameters(tensor.parameters, draw(PARAMETERS))
        request.raw_input_contents.append(draw(st.binary(max_size=8)))
    for _ in range(draw(st.integers(0, 2))):
        set_parameters(request.outputs.add(name=draw(TEXT)).parameters, draw(PARAMETERS))
    return request


@given(request=requests())
def test_json_and_binary_data_give_the_message_of_grpc(request: pb.ModelInferRequest) -> None:
    body, size = binary_body(request)
    assert read_infer(body, size)[0] == request
    body = json_body(request)
    assert read_infer(body, len(body))[0] == request


@given(document=ANY_JSON, binary=st.binary(max_size=8))
def test_any_document_is_read_or_refused(document: Any, binary: bytes) -> None:
    text = json.dumps(document).encode()
    with contextlib.suppress(InvalidRequestError):
        read_infer(text + binary, len(text))


@given(body=st.binary(max_size=60), length=st.text(max_size=6))
def test_any_body_is_read_or_refused(body: bytes, length: str) -> None:
    with contextlib.suppress(InvalidRequestError):
        read_infer(body, json_size(body, length))


@given(body=st.binary(max_size=60), encoding=st.sampled_from(["gzip", "deflate", "br", "", "x"]))
def test_any_compressed_body_is_read_or_refused(body: bytes, encoding: str) -> None:
    with contextlib.suppress(InvalidRequestError, UnsupportedError):
        assert len(inflate(body, encoding, 100)) <= 100


@pytest.mark.parametrize(
    "document",
    [
        b'{"a":[' + b",".join([element] * 20_000) + b"]}"
        for element in (b"[]", b"{}", b"[[[[]]]]", b"1e9", b"999", b'{"a":0}')
    ],
    ids=["lists", "objects", "nested", "floats", "integers", "small objects"],
)
def test_a_document_takes_no_more_memory_than_is_reserved_for_it(document: bytes) -> None:
    tracemalloc.start()
    try:
        read_document(document)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # The parser's own lists are not traced; they have a pointer for each element.
    assert peak_bytes + 8 * 20_000 < JSON_FACTOR * len(document)
