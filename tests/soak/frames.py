"""HTTP/2 by hand, for calls that no gRPC client would make: half sent, never read, torn off."""

import socket
import struct

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RESET, _SETTINGS = 0, 1, 3, 4
_END_STREAM, _END_HEADERS = 1, 4
_INITIAL_WINDOW_SIZE = 4
_CANCEL = 8


def connect(port: int, *, window_bytes: int = 65_535) -> socket.socket:
    """A connection whose client takes so many bytes of each answer before it has read them."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=10)
    setting = struct.pack(">HI", _INITIAL_WINDOW_SIZE, window_bytes)
    connection.sendall(_PREFACE + _frame(_SETTINGS, 0, 0, setting))
    return connection


def headers(method: str, stream: int) -> bytes:
    """The headers of a call; its message is still to come."""
    fields = {
        ":method": "POST",
        ":scheme": "http",
        ":path": method,
        ":authority": "localhost",
        "content-type": "application/grpc",
        "te": "trailers",
    }
    # HPACK without its table: every field is written out.
    block = b"".join(
        b"\0" + bytes((len(name),)) + name.encode() + bytes((len(value),)) + value.encode()
        for name, value in fields.items()
    )
    return _frame(_HEADERS, _END_HEADERS, stream, block)


def message(data: bytes, stream: int, *, sent_bytes: int | None = None) -> bytes:
    """A message and the end of the call's request; or only its first bytes, and no end."""
    prefixed = struct.pack(">BI", 0, len(data)) + data
    if sent_bytes is None:
        return _frame(_DATA, _END_STREAM, stream, prefixed)
    return _frame(_DATA, 0, stream, prefixed[:sent_bytes])


def reset(stream: int) -> bytes:
    """The client gives the call up."""
    return _frame(_RESET, 0, stream, struct.pack(">I", _CANCEL))


def tear_off(connection: socket.socket) -> None:
    """Close a connection with a reset, as a client does that has crashed."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3) + bytes((kind, flags)) + stream.to_bytes(4) + payload
