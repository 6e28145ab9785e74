"""Reads a ModelInferRequest: its images and the outputs that it asks for."""

import math
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from convd.artifact.graph_contract import GraphTensor
from convd.protos.inference import grpc_service_pb2 as pb
from convd.service.errors import InvalidRequestError
from convd.service.lifecycle.catalog import VersionChoice
from convd.service.quoting import quote
from convd.service.rpc.open_inference import parameters
from convd.service.rpc.open_inference.signature import ENCODED_IMAGE, IMAGE
from convd.service.rpc.open_inference.tensors import InputTensor, bytes_elements, uint8_elements

_NUMBER = re.compile(r"[1-9][0-9]{0,17}")
_LABEL = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")


@dataclass(frozen=True)
class InferRequest:
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
    outputs: Collection[GraphTensor],
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
    parameters.check_parameters(request.parameters)
    images = _read_images(request, check_row_count)
    has_both = len(request.inputs) == 2
    return InferRequest(
        images=images,
        outputs=_read_outputs(request, outputs),
        priority=parameters.priority(request.parameters),
        timeout_seconds=parameters.timeout_seconds(request.parameters),
        ignored_input=ENCODED_IMAGE if has_both else "",
    )


def _read_images(
    request: pb.ModelInferRequest, check_row_count: Callable[[int], None]
) -> NDArray[np.uint8] | list[bytes]:
    tensors = _inputs_by_name(request)
    raw = _raw_by_name(request)
    for tensor in tensors.values():
        parameters.refuse_shared_memory(tensor.parameters)
    images: NDArray[np.uint8] | list[bytes] = []
    if ENCODED_IMAGE in tensors:
        tensor = tensors[ENCODED_IMAGE]
        _check_datatype(tensor, "BYTES")
        rows = _encoded_rows(tensor)
        check_row_count(rows)
        images = bytes_elements(tensor, raw.get(ENCODED_IMAGE), rows)
    if IMAGE in tensors:
        # A load tester fills every input in the metadata with noise, which is not a valid image
        # file. So the pixels, which are always valid, take precedence.
        tensor = tensors[IMAGE]
        _check_datatype(tensor, "UINT8")
        shape = _image_shape(tensor)
        rows = shape[0]
        check_row_count(rows)
        if ENCODED_IMAGE in tensors and len(images) != rows:
            raise InvalidRequestError(
                f"input '{IMAGE}' has {rows} rows and input '{ENCODED_IMAGE}' has {len(images)}: "
                "send only one of them"
            )
        images = uint8_elements(tensor, raw.get(IMAGE), math.prod(shape)).reshape(shape)
    return images


def _inputs_by_name(request: pb.ModelInferRequest) -> dict[str, InputTensor]:
    if not request.inputs:
        raise InvalidRequestError(
            f"the request has no inputs: send '{IMAGE}' (UINT8) or '{ENCODED_IMAGE}' (BYTES)"
        )
    tensors: dict[str, InputTensor] = {}
    for tensor in request.inputs:
        if tensor.name not in (IMAGE, ENCODED_IMAGE):
            raise InvalidRequestError(
                f"there is no input '{quote(tensor.name)}': send '{IMAGE}' (UINT8) or "
                f"'{ENCODED_IMAGE}' (BYTES)"
            )
        if tensor.name in tensors:
            raise InvalidRequestError(f"input '{tensor.name}' appears twice: send it once")
        tensors[tensor.name] = tensor
    return tensors


def _raw_by_name(request: pb.ModelInferRequest) -> dict[str, bytes]:
    if not request.raw_input_contents:
        return {}
    for tensor in request.inputs:
        if tensor.HasField("contents"):
            raise InvalidRequestError(
                f"input '{tensor.name}' has contents although the request has raw_input_contents: "
                "use only one of them"
            )
    if len(request.raw_input_contents) != len(request.inputs):
        raise InvalidRequestError(
            f"raw_input_contents has {len(request.raw_input_contents)} entries for "
            f"{len(request.inputs)} inputs: send one entry per input"
        )
    names = (tensor.name for tensor in request.inputs)
    return dict(zip(names, request.raw_input_contents, strict=True))


def _check_datatype(tensor: InputTensor, datatype: str) -> None:
    if tensor.datatype != datatype:
        raise InvalidRequestError(
            f"input '{tensor.name}' has datatype '{quote(tensor.datatype)}': send '{datatype}'"
        )


def _image_shape(tensor: InputTensor) -> tuple[int, ...]:
    _check_rank(tensor, (4,), "[rows, height, width, channels]")
    _checked_rows(tensor)
    if min(tensor.shape) < 1:
        raise InvalidRequestError(
            f"input '{tensor.name}' has shape {list(tensor.shape)}: every dimension must be at "
            "least 1"
        )
    return tuple(tensor.shape)


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
    request: pb.ModelInferRequest, outputs: Collection[GraphTensor]
) -> dict[str, int | None]:
    names = [output.name for output in outputs]
    if not request.outputs:
        return dict.fromkeys(names)
    wanted: dict[str, int | None] = {}
    for output in request.outputs:
        tensor = next((each for each in outputs if each.name == output.name), None)
        if tensor is None:
            raise InvalidRequestError(
                f"there is no output '{quote(output.name)}'; the outputs are: {', '.join(names)}"
            )
        parameters.refuse_shared_memory(output.parameters)
        classes = parameters.classification(output.name, output.parameters)
        if classes is not None and not tensor.has_classes:
            raise InvalidRequestError(
                f"output '{output.name}' has no classes: remove its parameter 'classification'"
            )
        if wanted.setdefault(output.name, classes) != classes:
            raise InvalidRequestError(
                f"output '{output.name}' is requested twice with different values of "
                "'classification': request it once"
            )
    return {name: wanted[name] for name in names if name in wanted}
