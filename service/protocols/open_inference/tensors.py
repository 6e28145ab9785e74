"""Reads the elements of tensors from raw bytes or from a typed field.

Nothing is allocated based on a size that a tensor claims: claimed sizes are compared, as Python
integers that cannot overflow, with the number of bytes received.
"""

import struct
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from convd.protos.inference import grpc_service_pb2 as pb
from convd.service.errors import InvalidRequestError

InputTensor = pb.ModelInferRequest.InferInputTensor

_LENGTH = struct.Struct("<I")


def uint8_elements(tensor: InputTensor, raw: bytes | None, count: int) -> NDArray[np.uint8]:
    """Read the elements of a UINT8 tensor.

    Args:
        tensor: The tensor.
        raw: Its raw entry; None if the elements are in its contents.
        count: Number of elements in its shape.

    Returns:
        uint8 `[count]`; a view of the raw bytes if there are any.

    Raises:
        InvalidRequestError: The number of elements is wrong, or one is greater than 255.
    """
    if raw is not None:
        if len(raw) != count:
            raise InvalidRequestError(
                f"input '{tensor.name}' has {len(raw)} raw bytes, but its shape needs {count}"
            )
        return np.frombuffer(raw, np.uint8)
    _check_contents(tensor, "uint_contents", count)
    values = np.array(tensor.contents.uint_contents, np.uint32)
    if values.max(initial=0) > np.iinfo(np.uint8).max:
        raise InvalidRequestError(
            f"input '{tensor.name}' has the value {values.max()} in contents.uint_contents; "
            "the maximum of UINT8 is 255"
        )
    return values.astype(np.uint8)


def bytes_elements(tensor: InputTensor, raw: bytes | None, count: int) -> list[bytes]:
    """Read the elements of a BYTES tensor.

    Args:
        tensor: The tensor.
        raw: Its raw entry: for each element its length, little-endian in four bytes, and its bytes;
            None if the elements are in its contents.
        count: Number of elements in its shape.

    Raises:
        InvalidRequestError: The number of elements is wrong, or a length exceeds the entry.
    """
    if raw is None:
        _check_contents(tensor, "bytes_contents", count)
        return list(tensor.contents.bytes_contents)
    elements = []
    position = 0
    for index in range(count):
        if len(raw) - position < _LENGTH.size:
            raise InvalidRequestError(
                f"input '{tensor.name}' has {index} elements in its {len(raw)} raw bytes, but its "
                f"shape needs {count}"
            )
        (length,) = _LENGTH.unpack_from(raw, position)
        position += _LENGTH.size
        if length > len(raw) - position:
            raise InvalidRequestError(
                f"element {index} of input '{tensor.name}' claims {length} bytes, but "
                f"{len(raw) - position} are left"
            )
        elements.append(raw[position : position + length])
        position += length
    if position != len(raw):
        raise InvalidRequestError(
            f"input '{tensor.name}' has {len(raw) - position} extra raw bytes after the {count} "
            "elements of its shape"
        )
    return elements


def raw_bytes_tensor(elements: Iterable[bytes]) -> bytes:
    """Encode elements in the raw form of a BYTES tensor."""
    return b"".join(part for element in elements for part in (_LENGTH.pack(len(element)), element))


def _check_contents(tensor: InputTensor, field: str, count: int) -> None:
    for descriptor, values in tensor.contents.ListFields():
        if descriptor.name != field:
            raise InvalidRequestError(
                f"input '{tensor.name}' has values in contents.{descriptor.name}; "
                f"{tensor.datatype} values belong in contents.{field}"
            )
        if len(values) != count:
            raise InvalidRequestError(
                f"input '{tensor.name}' has {len(values)} values in contents.{field}, but its "
                f"shape needs {count}"
            )
    if not tensor.contents.ListFields() and count:
        raise InvalidRequestError(
            f"input '{tensor.name}' has no elements: send raw_input_contents or contents.{field}"
        )
