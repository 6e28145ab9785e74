"""Reads inference requests of the Open Inference Protocol: JSON, and binary data after it.

A request becomes the message that gRPC would have received, so both are checked by the same code.
https://github.com/kserve/open-inference-protocol,
https://github.com/triton-inference-server/server/tree/main/docs/protocol
"""

import base64
import binascii
from itertools import chain
from typing import Any

from convd.protos.inference import grpc_service_pb2 as pb
from convd.service.errors import InvalidRequestError
from convd.service.protocols.open_inference.tensors import raw_bytes_tensor
from convd.service.quoting import quote
from convd.service.web.api.infer_answer import BinaryOutputs
from convd.service.web.api.json_fields import (
    object_field,
    objects_field,
    pop_flag,
    read_document,
    text_field,
)

HEADER_LENGTH = "Inference-Header-Content-Length"
"""The header that says how many bytes of a body are JSON; the rest is binary data."""

_INT64 = range(-(2**63), 2**63)
_MAX_NESTING = 8


def json_size(body: bytes, header_length: str) -> int:
    """How many bytes of a body are JSON.

    Args:
        body: The body.
        header_length: The header's value; empty if there is none.

    Raises:
        InvalidRequestError: The header is not the size of a part of the body.
    """
    if not header_length:
        return len(body)
    if header_length.isascii() and header_length.isdigit():
        size = int(header_length[:20])
        if 0 < size <= len(body):
            return size
    raise InvalidRequestError(
        f"{HEADER_LENGTH} is '{quote(header_length)}', but the body has {len(body)} bytes: send "
        "the size of the JSON document at its beginning"
    )


def read_infer(body: bytes, size: int) -> tuple[pb.ModelInferRequest, BinaryOutputs]:
    """Read a request.

    Args:
        body: A JSON document and the binary data of its inputs, one after the other.
        size: How many bytes of it are JSON.

    Returns:
        The message without its model, and which outputs are wanted as binary data.

    Raises:
        InvalidRequestError: It is malformed; the text names the field.
    """
    document = read_document(memoryview(body)[:size])
    request = pb.ModelInferRequest(id=text_field(document, "id", "the request"))
    given = object_field(document, "parameters", "the request")
    default = pop_flag(given, "binary_data_output", "the request")
    _set_parameters(request.parameters, given, "the request")
    position = size
    for index, tensor in enumerate(objects_field(document, "inputs")):
        position = _read_input(request, tensor, f"input {index}", body, position)
    if position != len(body):
        raise InvalidRequestError(
            f"the body has {len(body) - position} bytes of binary data that no input claims with "
            "'binary_data_size'"
        )
    chosen: dict[str, bool] = {}
    for index, output in enumerate(objects_field(document, "outputs")):
        where = f"output {index}"
        name = text_field(output, "name", where)
        parameters = object_field(output, "parameters", where)
        if "binary_data" in parameters:
            chosen[name] = pop_flag(parameters, "binary_data", where)
        _set_parameters(request.outputs.add(name=name).parameters, parameters, where)
    return request, BinaryOutputs(default, chosen)


def _read_input(
    request: pb.ModelInferRequest,
    tensor: dict[str, Any],
    where: str,
    body: bytes,
    position: int,
) -> int:
    """Add an input to a request; the position in the body after its binary data."""
    name, datatype = text_field(tensor, "name", where), text_field(tensor, "datatype", where)
    parameters = object_field(tensor, "parameters", where)
    size, data = parameters.pop("binary_data_size", None), tensor.get("data")
    message = request.inputs.add(name=name, datatype=datatype, shape=_shape(tensor, where))
    if size is not None:
        if data is not None:
            raise InvalidRequestError(f"{where} has both 'data' and 'binary_data_size': send one")
        if type(size) is not int or not 0 <= size <= len(body) - position:
            raise InvalidRequestError(
                f"{where} claims {quote(str(size))} bytes of binary data, but "
                f"{len(body) - position} bytes of the body are left"
            )
        raw = body[position : position + size]
        position += size
    else:
        encoding = parameters.pop("content_type", None)
        raw = _raw_data(datatype, data, where, is_base64=encoding == "base64")
    request.raw_input_contents.append(raw)
    _set_parameters(message.parameters, parameters, where)
    return position


def _raw_data(datatype: str, data: object, where: str, *, is_base64: bool) -> bytes:
    """The elements of a tensor in raw form; empty for a datatype that no input has."""
    if data is None:
        return b""
    elements = _flat(data, where)
    if datatype == "UINT8":
        try:
            return bytes(elements)
        except (TypeError, ValueError):
            raise InvalidRequestError(
                f"'data' of {where} has an element that is not a whole number from 0 to 255"
            ) from None
    if datatype != "BYTES":
        return b""
    if not all(isinstance(element, str) for element in elements):
        raise InvalidRequestError(f"'data' of {where} has an element that is not a string")
    try:
        if is_base64:
            return raw_bytes_tensor(base64.b64decode(one, validate=True) for one in elements)
        return raw_bytes_tensor(one.encode() for one in elements)
    except (binascii.Error, ValueError):
        raise InvalidRequestError(
            f"'data' of {where} has an element that is not {'base64' if is_base64 else 'text'}"
        ) from None


def _flat(data: object, where: str) -> list[Any]:
    """The elements of nested lists, in order."""
    for _ in range(_MAX_NESTING):
        if not isinstance(data, list):
            break
        if not any(isinstance(one, list) for one in data):
            return data
        if not all(isinstance(one, list) for one in data):
            raise InvalidRequestError(f"'data' of {where} has lists and elements side by side")
        data = list(chain.from_iterable(data))
    raise InvalidRequestError(f"'data' of {where} is not a list of elements")


def _shape(tensor: dict[str, Any], where: str) -> list[int]:
    shape = tensor.get("shape")
    if not isinstance(shape, list) or not all(type(one) is int and one in _INT64 for one in shape):
        raise InvalidRequestError(f"'shape' of {where} is not a list of whole numbers")
    return shape


def _set_parameters(target: Any, given: dict[str, Any], where: str) -> None:  # noqa: ANN401
    for name, value in given.items():
        if isinstance(value, bool):
            target[name].bool_param = value
        elif isinstance(value, int) and value in _INT64:
            target[name].int64_param = value
        elif isinstance(value, float):
            target[name].double_param = value
        elif isinstance(value, str):
            target[name].string_param = value
        else:
            raise InvalidRequestError(
                f"parameter '{quote(name)}' of {where} is neither a boolean, a number of 64 bits "
                "nor a string"
            )
