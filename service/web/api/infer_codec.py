"""Inference requests and responses of the Open Inference Protocol as JSON with binary data.

A request becomes the message that gRPC would have received, so both are checked by the same code,
and a response is written from the message that gRPC would send.
https://github.com/kserve/open-inference-protocol,
https://github.com/triton-inference-server/server/tree/main/docs/protocol
"""

import base64
import binascii
import json
import math
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
from pydantic_core import from_json

from convd.protos.inference import grpc_service_pb2 as pb
from convd.service.errors import InvalidRequestError
from convd.service.protocols.open_inference.tensors import (
    InputTensor,
    bytes_elements,
    raw_bytes_tensor,
)
from convd.service.quoting import quote

HEADER_LENGTH = "Inference-Header-Content-Length"
"""The header that says how many bytes of a body are JSON; the rest is binary data."""

JSON_FACTOR = 48
"""What a JSON document takes as Python objects, at most, for each of its bytes."""

_INT64 = range(-(2**63), 2**63)
_MAX_NESTING = 8
_MAX_TENSORS = 32


class BinaryOutputs(NamedTuple):
    """Which outputs go as binary data after the JSON.

    Attributes:
        default: Whether those do that do not say.
        chosen: For the others, by name.
    """

    default: bool
    chosen: dict[str, bool]

    def wanted(self, name: str) -> bool:
        """Whether this output goes as binary data."""
        return self.chosen.get(name, self.default)


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
    request = pb.ModelInferRequest(id=_text(document, "id", "the request"))
    given = _object(document, "parameters", "the request")
    default = _flag(given, "binary_data_output", "the request")
    _set_parameters(request.parameters, given, "the request")
    position = size
    for index, tensor in enumerate(_objects(document, "inputs")):
        position = _read_input(request, tensor, f"input {index}", body, position)
    if position != len(body):
        raise InvalidRequestError(
            f"the body has {len(body) - position} bytes of binary data that no input claims with "
            "'binary_data_size'"
        )
    chosen: dict[str, bool] = {}
    for index, output in enumerate(_objects(document, "outputs")):
        where = f"output {index}"
        name = _text(output, "name", where)
        parameters = _object(output, "parameters", where)
        if "binary_data" in parameters:
            chosen[name] = _flag(parameters, "binary_data", where)
        _set_parameters(request.outputs.add(name=name).parameters, parameters, where)
    return request, BinaryOutputs(default, chosen)


def write_infer(response: pb.ModelInferResponse, binary: BinaryOutputs) -> tuple[bytes, int | None]:
    """Write a response.

    Args:
        response: The response, with raw contents.
        binary: Which outputs go as binary data.

    Returns:
        The body, and how many bytes of it are JSON; None if all are.
    """
    outputs, parts = [], []
    for output, raw in zip(response.outputs, response.raw_output_contents, strict=True):
        document: dict[str, Any] = {
            "name": output.name,
            "datatype": output.datatype,
            "shape": list(output.shape),
        }
        if binary.wanted(output.name):
            document["parameters"] = {"binary_data_size": len(raw)}
            parts.append(raw)
        elif output.datatype == "BYTES":
            named = InputTensor(name=output.name)
            elements = bytes_elements(named, raw, math.prod(output.shape))
            document["data"] = [element.decode() for element in elements]
        else:
            document["data"] = np.frombuffer(raw, "<f4").tolist()
        outputs.append(document)
    content: dict[str, Any] = {
        "model_name": response.model_name,
        "model_version": response.model_version,
        "parameters": {
            name: getattr(one, str(one.WhichOneof("parameter_choice")))
            for name, one in response.parameters.items()
        },
        "outputs": outputs,
    }
    if response.id:
        content["id"] = response.id
    header = json.dumps(content, ensure_ascii=False, allow_nan=False).encode()
    return b"".join((header, *parts)), len(header) if parts else None


def read_document(data: bytes | memoryview) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        InvalidRequestError: It is not a JSON object.
    """
    try:
        document = from_json(bytes(data), allow_inf_nan=False)
    except ValueError as error:
        raise InvalidRequestError(f"the body is not a JSON document: {quote(str(error))}") from None
    if not isinstance(document, dict):
        raise InvalidRequestError("the body is not a JSON object: send {...}")
    return document


def _read_input(
    request: pb.ModelInferRequest,
    tensor: dict[str, Any],
    where: str,
    body: bytes,
    position: int,
) -> int:
    """Add an input to a request; the position in the body after its binary data."""
    name, datatype = _text(tensor, "name", where), _text(tensor, "datatype", where)
    parameters = _object(tensor, "parameters", where)
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


def _flag(parameters: dict[str, Any], name: str, where: str) -> bool:
    value = parameters.pop(name, False)
    if not isinstance(value, bool):
        raise InvalidRequestError(f"parameter '{name}' of {where} is not a boolean")
    return value


def _text(document: dict[str, Any], name: str, where: str) -> str:
    value = document.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise InvalidRequestError(f"'{name}' of {where} is not a string")
    return value


def _object(document: dict[str, Any], name: str, where: str) -> dict[str, Any]:
    value = document.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidRequestError(f"'{name}' of {where} is not an object")
    return {key: one for key, one in value.items() if one is not None}


def _objects(document: dict[str, Any], name: str) -> list[dict[str, Any]]:
    value = document.get(name)
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise InvalidRequestError(f"'{name}' is not a list of objects")
    if len(value) > _MAX_TENSORS:
        raise InvalidRequestError(
            f"the request has {len(value)} {name}: send at most {_MAX_TENSORS}"
        )
    return value
