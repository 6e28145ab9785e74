"""The elements of tensors as they travel: raw bytes, or values in a typed field.

Nothing is allocated by what a tensor claims: sizes are compared as Python integers, which cannot
overflow, with the bytes that are really there.
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
    """Elements of a UINT8 tensor.

    Args:
        tensor: The tensor.
        raw: Its raw entry; None where the elements are in its contents.
        count: How many elements its shape has.

    Returns:
        uint8 `[count]`; over the raw bytes themselves, not a copy.

    Raises:
        InvalidRequestError: There are more or fewer elements, or one is over 255.
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
            "UINT8 ends at 255"
        )
    return values.astype(np.uint8)


def bytes_elements(tensor: InputTensor, raw: bytes | None, count: int) -> list[bytes]:
    """Elements of a BYTES tensor.

    Args:
        tensor: The tensor.
        raw: Its raw entry, each element as four bytes of little-endian length and then its bytes;
            None where the elements are in its contents.
        count: How many elements its shape has.

    Raises:
        InvalidRequestError: There are more or fewer elements, or a length goes beyond the end.
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
            f"input '{tensor.name}' has {len(raw) - position} raw bytes after the {count} elements "
            "of its shape"
        )
    return elements


def raw_bytes_tensor(elements: Iterable[bytes]) -> bytes:
    """The raw form of a BYTES tensor."""
    return b"".join(part for element in elements for part in (_LENGTH.pack(len(element)), element))


def _check_contents(tensor: InputTensor, field: str, count: int) -> None:
    for descriptor, values in tensor.contents.ListFields():
        if descriptor.name != field:
            raise InvalidRequestError(
                f"input '{tensor.name}' has values in contents.{descriptor.name}; "
                f"{tensor.datatype} belongs in contents.{field}"
            )
        if len(values) != count:
            raise InvalidRequestError(
                f"input '{tensor.name}' has {len(values)} values in contents.{field}, but its "
                f"shape needs {count}"
            )
    if not tensor.contents.ListFields() and count:
        raise InvalidRequestError(
            f"input '{tensor.name}' has no elements: give raw_input_contents or contents.{field}"
        )
