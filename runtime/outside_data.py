"""Finds what an ONNX file would read from other files.

ONNX Runtime looks for a tensor's external data in the process's working folder, which is nobody's
artifact, and a compiled network (EPContext) names a file of its own. An artifact has everything in
`model.onnx`. The file is walked as protobuf, without copying its weights.

    https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
"""

from collections.abc import Iterator

from convd.runtime.errors import OutsideDataError, SessionError

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

# The messages that lead to tensors and nodes, by field number.
_INSIDE: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse tensor"},
    "node": {5: "attribute"},
    "attribute": {
        5: "tensor",
        6: "graph",
        10: "tensor",
        11: "graph",
        22: "sparse tensor",
        23: "sparse tensor",
    },
    "sparse tensor": {1: "tensor", 2: "tensor"},
    "tensor": {},
}
_OPERATOR = ("node", 4)
_EXTERNAL_DATA = ("tensor", 13)
_DATA_LOCATION = ("tensor", 14)
_COMPILED = memoryview(b"EPContext")
_MAX_DEPTH = 100


def refuse_outside_data(model: bytes) -> None:
    """Refuse an ONNX file whose network has data in other files.

    Raises:
        OutsideDataError: It names another file.
        SessionError: It is not a protobuf message.
    """
    waiting = [("model", memoryview(model), 0)]
    while waiting:
        kind, message, depth = waiting.pop()
        for number, value in _fields(message):
            field = (kind, number)
            if field == _EXTERNAL_DATA or (field == _DATA_LOCATION and value):
                raise OutsideDataError(
                    "model.onnx keeps weights in another file: export the model again, which puts "
                    "all of them into model.onnx"
                )
            if isinstance(value, int):
                continue
            if field == _OPERATOR and value == _COMPILED:
                raise OutsideDataError(
                    "model.onnx holds a network that was compiled for one execution provider: "
                    "export the original network"
                )
            inner = _INSIDE[kind].get(number)
            if inner is not None:
                if depth == _MAX_DEPTH:
                    raise SessionError("model.onnx is nested too deeply")
                waiting.append((inner, value, depth + 1))


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Numbers and values of a message's fields; the value of a fixed-size field is left out."""
    place, end = 0, len(message)
    while place < end:
        tag, after = _varint(message, place)
        if after - place > 5:
            raise _not_onnx()
        tag, place = tag & 0xFFFFFFFF, after
        wire_type = tag & 7
        if wire_type == _VARINT:
            value, place = _varint(message, place)
            yield tag >> 3, value
        elif wire_type == _BYTES:
            length, place = _varint(message, place)
            yield tag >> 3, message[place : place + length]
            place += length
        elif wire_type in (_FIXED32, _FIXED64):
            place += 4 if wire_type == _FIXED32 else 8
        else:
            raise _not_onnx()
    if place != end:
        raise _not_onnx()


def _varint(message: memoryview, place: int) -> tuple[int, int]:
    """A number, and the place after it."""
    number = 0
    for index, byte in enumerate(message[place : place + 10]):
        number |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return number, place + index + 1
    raise _not_onnx()


def _not_onnx() -> SessionError:
    return SessionError("model.onnx is not a valid ONNX file: export the model again")
