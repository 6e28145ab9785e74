"""From a ModelInferRequest to images and to what is wanted of them, or to what is wrong with it."""

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
    """What a request asks for, once it is known to be well-formed.

    Attributes:
        images: Prepared images, uint8 `[rows, height, width, channels]` (not yet compared with what
            the model takes), or image files.
        outputs: The wanted outputs in the model's order, each with the number of classes that are
            wanted in place of the tensor, or None for the tensor.
        priority: 1 is the highest; 0 is the default.
        timeout_seconds: How long it may wait before it runs; None for no limit of its own.
        ignored_input: An input that was not needed, since the request also has the other; or "".
    """

    images: NDArray[np.uint8] | list[bytes]
    outputs: Mapping[str, int | None]
    priority: int
    timeout_seconds: float | None
    ignored_input: str


def read_choice(model: str, version: str) -> VersionChoice:
    """Read which version is asked for; the protocol writes number and label as one text.

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
        f"version '{quote(version)}' is neither a positive whole number nor a label; leave it "
        "empty for the newest"
    )


def read_request(
    request: pb.ModelInferRequest,
    outputs: Collection[GraphTensor],
    check_row_count: Callable[[int], None],
) -> InferRequest:
    """Check a request and take it apart.

    Args:
        request: The request.
        outputs: What the network returns, in its order.
        check_row_count: Raises where a request has too many rows.

    Raises:
        InvalidRequestError: It is malformed; the text names the field.
        UnsupportedError: A tensor stands in shared memory.
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
        # A load tester fills every input that the metadata names, with noise: files that are no
        # images. So the pixels, which are always usable, come first.
        tensor = tensors[IMAGE]
        _check_datatype(tensor, "UINT8")
        shape = _image_shape(tensor)
        rows = shape[0]
        check_row_count(rows)
        if ENCODED_IMAGE in tensors and len(images) != rows:
            raise InvalidRequestError(
                f"input '{IMAGE}' has {rows} rows and input '{ENCODED_IMAGE}' has {len(images)}: "
                "send one of the two"
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
            raise InvalidRequestError(f"input '{tensor.name}' is there twice: send it once")
        tensors[tensor.name] = tensor
    return tensors


def _raw_by_name(request: pb.ModelInferRequest) -> dict[str, bytes]:
    if not request.raw_input_contents:
        return {}
    for tensor in request.inputs:
        if tensor.HasField("contents"):
            raise InvalidRequestError(
                f"input '{tensor.name}' has contents beside raw_input_contents: send one of the two"
            )
    if len(request.raw_input_contents) != len(request.inputs):
        raise InvalidRequestError(
            f"raw_input_contents has {len(request.raw_input_contents)} entries for "
            f"{len(request.inputs)} inputs: send one for each"
        )
    names = (tensor.name for tensor in request.inputs)
    return dict(zip(names, request.raw_input_contents, strict=True))


def _check_datatype(tensor: InputTensor, datatype: str) -> None:
    if tensor.datatype != datatype:
        raise InvalidRequestError(
            f"input '{tensor.name}' has datatype '{quote(tensor.datatype)}'; it takes '{datatype}'"
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
            f"input '{tensor.name}' has shape {list(tensor.shape)}; it takes {expected}"
        )
    return _checked_rows(tensor)


def _check_rank(tensor: InputTensor, ranks: tuple[int, ...], expected: str) -> None:
    if len(tensor.shape) not in ranks:
        raise InvalidRequestError(
            f"input '{tensor.name}' has a shape of {len(tensor.shape)} dimensions; it takes "
            f"{expected}"
        )


def _checked_rows(tensor: InputTensor) -> int:
    rows = tensor.shape[0]
    if rows < 1:
        raise InvalidRequestError(
            f"input '{tensor.name}' has {rows} rows in its shape; send at least one"
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
                f"output '{output.name}' has no classes: leave its 'classification' out"
            )
        if wanted.setdefault(output.name, classes) != classes:
            raise InvalidRequestError(
                f"output '{output.name}' is asked for twice with different 'classification'"
            )
    return {name: wanted[name] for name in names if name in wanted}
