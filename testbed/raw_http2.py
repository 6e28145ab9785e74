"""gRPC calls as bytes on a socket: what gRPC's own clients refuse to send."""

import dataclasses
import re
import socket
import ssl
import struct
from types import TracebackType
from typing import Self

_DATA, _HEADERS, _RESET, _SETTINGS = 0, 1, 3, 4
_END_STREAM, _END_HEADERS = 1, 4
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_CANCEL = 8


@dataclasses.dataclass
class Answer:
    """What came back on a stream.

    Attributes:
        headers: The header blocks as they came; gRPC does not compress values that it has not sent
            before.
        body: The message with its prefix.
        status: The gRPC status; None if the stream was reset.
    """

    headers: bytes = b""
    body: bytes = b""
    status: int | None = None


class RawConnection:
    """One HTTP/2 connection for one call.

    Args:
        port: The gRPC port on loopback.
        tls: Encrypts the connection; None for plain text.
    """

    def __init__(self, port: int, tls: ssl.SSLContext | None = None) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=20)
        if tls is not None:
            self._socket = tls.wrap_socket(self._socket, server_hostname="localhost")
        self._socket.sendall(_PREFACE + _frame(_SETTINGS, 0, 0, b""))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._socket.close()

    def call(
        self, method: bytes, body: bytes, *headers: tuple[bytes, bytes], compressed: bool = False
    ) -> Answer:
        """Send one message, and read until the call ends."""
        message = struct.pack(">BI", compressed, len(body)) + body
        self._send_headers(method, headers)
        self._socket.sendall(_frame(_DATA, _END_STREAM, 1, message))
        return self.answer()

    def begin(
        self, method: bytes, *headers: tuple[bytes, bytes], stream: int = 1, sent: bytes = b""
    ) -> None:
        """Begin a call, and send no message, or the beginning of one.

        Args:
            method: Its path.
            *headers: More of its headers.
            stream: Which stream of the connection, an odd number larger than those before.
            sent: What is sent of the message, with its prefix.
        """
        self._send_headers(method, headers, stream)
        if sent:
            self._socket.sendall(_frame(_DATA, 0, stream, sent))

    def reset(self, method: bytes, *headers: tuple[bytes, bytes]) -> None:
        """Begin a call and reset it."""
        self._send_headers(method, headers)
        self._socket.sendall(_frame(_RESET, 0, 1, struct.pack(">I", _CANCEL)))

    def _send_headers(
        self, method: bytes, headers: tuple[tuple[bytes, bytes], ...], stream: int = 1
    ) -> None:
        fields = [
            (b":method", b"POST"),
            (b":scheme", b"http"),
            (b":path", method),
            (b":authority", b"localhost"),
            (b"te", b"trailers"),
            (b"content-type", b"application/grpc"),
            *headers,
        ]
        # Literal fields without indexing (RFC 7541, section 6.2.2).
        block = b"".join(b"\0" + _string(name) + _string(value) for name, value in fields)
        self._socket.sendall(_frame(_HEADERS, _END_HEADERS, stream, block))

    def answer(self) -> Answer:
        """Read until the call ends."""
        answer = Answer()
        with self._socket.makefile("rb") as stream:
            while head := stream.read(9):
                kind, flags = head[3], head[4]
                payload = stream.read(int.from_bytes(head[:3]))
                if kind == _HEADERS:
                    answer.headers += payload
                elif kind == _DATA:
                    answer.body += payload
                if kind == _RESET or (kind in (_HEADERS, _DATA) and flags & _END_STREAM):
                    break
        found = re.search(rb"grpc-status[\x01\x02](\d+)", answer.headers)
        answer.status = int(found[1]) if found else None
        return answer


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3) + struct.pack(">BBI", kind, flags, stream) + payload


def _string(text: bytes) -> bytes:
    assert len(text) < 127  # noqa: S101
    return bytes([len(text)]) + text
