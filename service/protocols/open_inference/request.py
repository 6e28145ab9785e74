"""Reads a ModelInferRequest: its images and the outputs that it asks for.

Reading a message field by field costs a small network's request as much as everything else that is
done for it. But clients describe every picture in the same words: what a short description says is
kept, and found again by its bytes.
"""

import math
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import NamedTuple, NoReturn

import numpy as np
from numpy.typing import NDArray

from convd.artifact.graph_contract import ALL_EXTRAS, NO_EXTRAS, Extras, GraphTensor
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

RequestedOutput = pb.ModelInferRequest.InferRequestedOutputTensor

IMAGE_RANK = 4
_NUMBER = re.compile(r"[1-9][0-9]{0,17}")
_LABEL = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")

_MOST_KEPT = 256
_MOST_KEPT_BYTES = 256


class Wanted(NamedTuple):
    """The outputs that a request asks for.

    Attributes:
        outputs: In the model's order, each with the number of classes to return instead of the
            tensor, or None for the tensor.
        extras: Those of them that a graph may lack.
    """

    outputs: Mapping[str, int | None]
    extras: Extras


class InferRequest(NamedTuple):
    """A well-formed request.

    Attributes:
        images: Prepared images, uint8 `[rows, height, width, channels]` (not yet compared with what
            the model takes), or image files.
        wanted: The requested outputs.
        priority: 1 is the highest; 0 is the default.
        timeout_seconds: Its timeout; None if it sets none.
        ignored_input: The input that is ignored because the request has both; empty otherwise.
    """

    images: NDArray[np.uint8] | list[bytes]
    wanted: Wanted
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


class RequestReader:
    """Checks and reads requests.

    Args:
        outputs: The network's outputs, in order.
        check_row_count: Raises if a request has too many rows.
    """

    def __init__(
        self, outputs: Mapping[str, GraphTensor], check_row_count: Callable[[int], None]
    ) -> None:
        self._outputs = outputs
        self._check_row_count = check_row_count
        self._everything = Wanted(
            dict.fromkeys(name for name in outputs if name not in ALL_EXTRAS), NO_EXTRAS
        )
        self._kept_wanted = lru_cache(_MOST_KEPT)(self._read_wanted)

    def read(self, request: pb.ModelInferRequest) -> InferRequest:
        """Check and read a request.

        Raises:
            InvalidRequestError: It is malformed; the text names the field.
            UnsupportedError: A tensor is in shared memory.
        """
        priority, timeout_seconds = 0, None
        if request.parameters:
            parameters.check_parameters(request.parameters)
            priority = parameters.priority(request.parameters)
            timeout_seconds = parameters.timeout_seconds(request.parameters)
        pixels, files = _read_inputs(request, self._check_row_count)
        wanted = self._wanted(request)
        if pixels is None:
            return InferRequest(files or [], wanted, priority, timeout_seconds, "")
        if files is None:
            return InferRequest(pixels, wanted, priority, timeout_seconds, "")
        if len(files) != len(pixels):
            raise InvalidRequestError(
                f"input '{IMAGE}' has {len(pixels)} rows and input '{ENCODED_IMAGE}' has "
                f"{len(files)}: send only one of them"
            )
        # A load tester fills every input in the metadata with noise, which is not a valid image
        # file. So the pixels, which are always valid, take precedence.
        return InferRequest(pixels, wanted, priority, timeout_seconds, ENCODED_IMAGE)

    def _wanted(self, request: pb.ModelInferRequest) -> Wanted:
        if not request.outputs:
            return self._everything
        descriptions = tuple([output.SerializeToString() for output in request.outputs])
        if sum(map(len, descriptions)) > _MOST_KEPT_BYTES:
            return self._read_wanted(descriptions)
        return self._kept_wanted(descriptions)

    def _read_wanted(self, descriptions: tuple[bytes, ...]) -> Wanted:
        wanted: dict[str, int | None] = {}
        for description in descriptions:
            output = RequestedOutput.FromString(description)
            name = output.name
            tensor = self._outputs.get(name)
            if tensor is None:
                raise InvalidRequestError(
                    f"there is no output '{quote(name)}'; the outputs are: "
                    f"{', '.join(self._outputs)}"
                )
            parameters.refuse_shared_memory(output.parameters)
            classes = parameters.classification(name, output.parameters)
            if classes is not None and not tensor.has_classes:
                raise InvalidRequestError(
                    f"output '{name}' has no classes: remove its parameter 'classification'"
                )
            if wanted.setdefault(name, classes) != classes:
                raise InvalidRequestError(
                    f"output '{name}' is requested twice with different values of "
                    "'classification': request it once"
                )
        return Wanted(
            {name: wanted[name] for name in self._outputs if name in wanted},
            ALL_EXTRAS.intersection(wanted),
        )


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
    if input_count == raw_count == 1:
        shape, content = _pixels_shape(inputs[0]), raw_contents[0]
        if shape is not None and len(content) == math.prod(shape):
            check_row_count(shape[0])
            return np.ndarray(shape, np.uint8, content), None
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
            if not _is_pixels(tensor, shape):
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


def _pixels_shape(tensor: InputTensor) -> tuple[int, ...] | None:
    """The shape of pixels that are sent raw and well described; None of anything else."""
    description = tensor.SerializeToString()
    return _read_pixels_shape(description) if len(description) <= _MOST_KEPT_BYTES else None


@lru_cache(_MOST_KEPT)
def _read_pixels_shape(description: bytes) -> tuple[int, ...] | None:
    tensor = InputTensor.FromString(description)
    if tensor.name != IMAGE or tensor.HasField("contents") or tensor.parameters:
        return None
    shape = tuple(tensor.shape)
    return shape if _is_pixels(tensor, shape) else None


def _is_pixels(tensor: InputTensor, shape: tuple[int, ...]) -> bool:
    return tensor.datatype == "UINT8" and len(shape) == IMAGE_RANK and min(shape) >= 1


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
