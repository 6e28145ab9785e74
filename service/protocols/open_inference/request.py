"""Reads a ModelInferRequest: its images and the outputs that it asks for."""

import math
import re
from collections.abc import Callable, Mapping
from typing import NamedTuple, NoReturn

import numpy as np
from numpy.typing import NDArray

from convd.artifact.graph_contract import ALL_EXTRAS, GraphTensor
from convd.protos.inference import grpc_service_pb2 as pb
from convd.service.errors import InvalidRequestError
from convd.service.lifecycle.catalog import VersionChoice
from convd.service.protocols.open_inference import parameters
from convd.service.protocols.open_inference.signature import ENCODED_IMAGE, IMAGE
from convd.service.protocols.open_inference.tensors import (
    InputTensor,
    bytes_elements,
    uint8_elements,
)
from convd.service.quoting import quote

IMAGE_RANK = 4
_NUMBER = re.compile(r"[1-9][0-9]{0,17}")
_LABEL = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")


class InferRequest(NamedTuple):
    """A well-formed request.

    Attributes:
        images: Prepared images, uint8 `[rows, height, width, channels]` (not yet compared with what
            the model takes), or image files.
        outputs: The requested outputs in the model's order, each with the number of classes to
            return instead of the tensor, or None for the tensor.
        priority: 1 is the highest; 0 is the default.
        timeout_seconds: Its timeout; None if it sets none.
        ignored_input: The input that is ignored because the request has both; empty otherwise.
    """

    images: NDArray[np.uint8] | list[bytes]
    outputs: Mapping[str, int | None]
    priority: int
    timeout_seconds: float | None
    ignored_input: str


def read_choice(model: str, version: str) -> VersionChoice:
    """Read which version is requested; the protocol has one text for number and label.

    Raises:
        InvalidRequestError: The version is neither a positive whole number nor a label.
    """
    if not version:
        return VersionChoice(model)
    if _NUMBER.fullmatch(version):
        return VersionChoice(model, int(version))
    if _LABEL.fullmatch(version):
        return VersionChoice(model, label=version)
    raise InvalidRequestError(
        f"version '{quote(version)}' is neither a positive whole number nor a label: correct it, "
        "or leave it empty for the newest version"
    )


def read_request(
    request: pb.ModelInferRequest,
    outputs: Mapping[str, GraphTensor],
    check_row_count: Callable[[int], None],
) -> InferRequest:
    """Check and read a request.

    Args:
        request: The request.
        outputs: The network's outputs, in order.
        check_row_count: Raises if a request has too many rows.

    Raises:
        InvalidRequestError: It is malformed; the text names the field.
        UnsupportedError: A tensor is in shared memory.
    """
    priority, timeout_seconds = 0, None
    if request.parameters:
        parameters.check_parameters(request.parameters)
        priority = parameters.priority(request.parameters)
        timeout_seconds = parameters.timeout_seconds(request.parameters)
    pixels, files = _read_inputs(request, check_row_count)
    wanted = _read_outputs(request, outputs)
    if pixels is None:
        return InferRequest(files or [], wanted, priority, timeout_seconds, "")
    if files is None:
        return InferRequest(pixels, wanted, priority, timeout_seconds, "")
    if len(files) != len(pixels):
        raise InvalidRequestError(
            f"input '{IMAGE}' has {len(pixels)} rows and input '{ENCODED_IMAGE}' has "
            f"{len(files)}: send only one of them"
        )
    # A load tester fills every input in the metadata with noise, which is not a valid image file.
    # So the pixels, which are always valid, take precedence.
    return InferRequest(pixels, wanted, priority, timeout_seconds, ENCODED_IMAGE)


def _read_inputs(
    request: pb.ModelInferRequest, check_row_count: Callable[[int], None]
) -> tuple[NDArray[np.uint8] | None, list[bytes] | None]:
    """Pixels and image files, None for what the request does not have."""
    inputs, raw_contents = request.inputs, request.raw_input_contents
    input_count, raw_count = len(inputs), len(raw_contents)
    if not input_count:
        raise InvalidRequestError(
            f"the request has no inputs: send '{IMAGE}' (UINT8) or '{ENCODED_IMAGE}' (BYTES)"
        )
    if raw_count and raw_count != input_count:
        raise InvalidRequestError(
            f"raw_input_contents has {raw_count} entries for {input_count} inputs: send one entry "
            "per input"
        )
    pixels: NDArray[np.uint8] | None = None
    files: list[bytes] | None = None
    for index in range(input_count):
        tensor = inputs[index]
        name = tensor.name
        if raw_count and tensor.HasField("contents"):
            raise InvalidRequestError(
                f"input '{quote(name)}' has contents although the request has raw_input_contents: "
                "use only one of them"
            )
        if tensor.parameters:
            parameters.refuse_shared_memory(tensor.parameters)
        raw = raw_contents[index] if raw_count else None
        if name == IMAGE and pixels is None:
            shape = tuple(tensor.shape)
            if tensor.datatype != "UINT8" or len(shape) != IMAGE_RANK or min(shape) < 1:
                _refuse_pixels(tensor)
            check_row_count(shape[0])
            pixels = uint8_elements(tensor, raw, math.prod(shape)).reshape(shape)
        elif name == ENCODED_IMAGE and files is None:
            _check_datatype(tensor, "BYTES")
            rows = _encoded_rows(tensor)
            check_row_count(rows)
            files = bytes_elements(tensor, raw, rows)
        else:
            _refuse_name(name)
    return pixels, files


def _refuse_name(name: str) -> NoReturn:
    if name in (IMAGE, ENCODED_IMAGE):
        raise InvalidRequestError(f"input '{name}' appears twice: send it once")
    raise InvalidRequestError(
        f"there is no input '{quote(name)}': send '{IMAGE}' (UINT8) or '{ENCODED_IMAGE}' (BYTES)"
    )


def _refuse_pixels(tensor: InputTensor) -> NoReturn:
    """Say what is wrong with the datatype or the shape of the pixels."""
    _check_datatype(tensor, "UINT8")
    _check_rank(tensor, (IMAGE_RANK,), "[rows, height, width, channels]")
    _checked_rows(tensor)
    raise InvalidRequestError(
        f"input '{tensor.name}' has shape {list(tensor.shape)}: every dimension must be at least 1"
    )


def _check_datatype(tensor: InputTensor, datatype: str) -> None:
    if tensor.datatype != datatype:
        raise InvalidRequestError(
            f"input '{tensor.name}' has datatype '{quote(tensor.datatype)}': send '{datatype}'"
        )


def _encoded_rows(tensor: InputTensor) -> int:
    expected = "[rows, 1] or [rows]"
    _check_rank(tensor, (1, 2), expected)
    if any(dimension != 1 for dimension in tensor.shape[1:]):
        raise InvalidRequestError(
            f"input '{tensor.name}' has shape {list(tensor.shape)}: send {expected}"
        )
    return _checked_rows(tensor)


def _check_rank(tensor: InputTensor, ranks: tuple[int, ...], expected: str) -> None:
    if len(tensor.shape) not in ranks:
        raise InvalidRequestError(
            f"the shape of input '{tensor.name}' has {len(tensor.shape)} dimensions: send "
            f"{expected}"
        )


def _checked_rows(tensor: InputTensor) -> int:
    rows = tensor.shape[0]
    if rows < 1:
        raise InvalidRequestError(
            f"the shape of input '{tensor.name}' has {rows} rows: send at least one"
        )
    return rows


def _read_outputs(
    request: pb.ModelInferRequest, outputs: Mapping[str, GraphTensor]
) -> dict[str, int | None]:
    if not request.outputs:
        return dict.fromkeys(name for name in outputs if name not in ALL_EXTRAS)
    wanted: dict[str, int | None] = {}
    for output in request.outputs:
        name = output.name
        tensor = outputs.get(name)
        if tensor is None:
            raise InvalidRequestError(
                f"there is no output '{quote(name)}'; the outputs are: {', '.join(outputs)}"
            )
        classes = None
        if output.parameters:
            parameters.refuse_shared_memory(output.parameters)
            classes = parameters.classification(name, output.parameters)
        if classes is not None and not tensor.has_classes:
            raise InvalidRequestError(
                f"output '{name}' has no classes: remove its parameter 'classification'"
            )
        if wanted.setdefault(name, classes) != classes:
            raise InvalidRequestError(
                f"output '{name}' is requested twice with different values of 'classification': "
                "request it once"
            )
    if len(wanted) == 1:
        return wanted
    return {name: wanted[name] for name in outputs if name in wanted}
