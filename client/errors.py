"""What can go wrong, as exceptions with the server's own text.

ClientError
├── InvalidRequestError     INVALID_ARGUMENT: the request, or
│   └── InvalidImageError   one of its images cannot be used
├── NotFoundError           NOT_FOUND: no such model, version or label
├── UnavailableError        UNAVAILABLE: the model is loading, or the server drains
│   └── CannotConnectError  nothing answers at the address, or not in gRPC
├── OverloadedError         RESOURCE_EXHAUSTED: too many requests wait, or a limit is reached
├── DeadlineError           DEADLINE_EXCEEDED; also a TimeoutError
├── UnauthorizedError       UNAUTHENTICATED, PERMISSION_DENIED: a token or certificate is missing
└── ServerError             anything else
"""

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import grpc

from convd.client.results import Classification

_REQUEST_ID_KEY = "x-request-id"

# What gRPC's text contains where no connection came about, and what to do; the first that fits.
_NO_CONNECTION = (
    (
        "Expected SETTINGS frame",
        "an HTTP server answers there: give the gRPC port, by default 8001",
    ),
    ("WRONG_VERSION_NUMBER", "the server does not use TLS: connect without it"),
    ("CERTIFICATE_VERIFY_FAILED", "its certificate is not from a trusted authority: give the CA"),
    ("Hostname Verification", "its certificate is for another name: give that name"),
    ("Tls handshake failed", "the TLS handshake failed: check the CA and the client certificate"),
    ("errors resolving", "the host name is not known: check its spelling"),
    ("Connection refused", "no server listens there: start one with 'convd serve'"),
    ("Connection reset", "the server closes the connection: if it uses TLS, connect with TLS"),
    ("Socket closed", "the server closes the connection: if it uses TLS, connect with TLS"),
    ("failed to connect", "check that a server is running there"),
)


class ClientError(Exception):
    """A call failed.

    Attributes:
        message: What is wrong and what to do about it.
        code: Name of the gRPC status code.
        request_id: The id under which the server's log has the call; empty if it sent none.
    """

    default_code: ClassVar[str] = "UNKNOWN"

    def __init__(self, message: str, *, code: str = "", request_id: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.default_code
        self.request_id = request_id


class InvalidRequestError(ClientError):
    """The server cannot use the request."""

    default_code = "INVALID_ARGUMENT"


class InvalidImageError(InvalidRequestError):
    """An image cannot be used.

    Attributes:
        index: Its place among the images that were given, from 0.
        results: What became of each image that was given with it, in their order: its
            `Classification` or its own `InvalidImageError`; empty for a single image.
    """

    def __init__(
        self,
        message: str,
        *,
        index: int = 0,
        results: "Sequence[Classification | InvalidImageError]" = (),
    ) -> None:
        super().__init__(message)
        self.index = index
        self.results = tuple(results)


class NotFoundError(ClientError):
    """There is no such model, version or label."""

    default_code = "NOT_FOUND"


class UnavailableError(ClientError):
    """The model or the server cannot answer now, and may later."""

    default_code = "UNAVAILABLE"


class CannotConnectError(UnavailableError):
    """Nothing answers at the address, or what answers does not speak gRPC."""


class OverloadedError(ClientError):
    """The server has too much to do, or a limit is reached."""

    default_code = "RESOURCE_EXHAUSTED"


class DeadlineError(ClientError, TimeoutError):
    """The answer did not come in time."""

    default_code = "DEADLINE_EXCEEDED"


class UnauthorizedError(ClientError):
    """The server does not know the caller, or does not allow it this call."""

    default_code = "UNAUTHENTICATED"


class ServerError(ClientError):
    """Any other failure."""


_ERRORS: dict[grpc.StatusCode, type[ClientError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequestError,
    grpc.StatusCode.NOT_FOUND: NotFoundError,
    grpc.StatusCode.UNAVAILABLE: UnavailableError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: OverloadedError,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineError,
    grpc.StatusCode.UNAUTHENTICATED: UnauthorizedError,
    grpc.StatusCode.PERMISSION_DENIED: UnauthorizedError,
}


def error_of_call(error: grpc.RpcError, server: str) -> ClientError:
    """The exception for a failed call.

    Args:
        error: What gRPC raised.
        server: The server's address, for the text.
    """
    code: grpc.StatusCode = error.code()
    text = error.details() or code.name
    if code is grpc.StatusCode.UNAVAILABLE:
        reason = _why_not_connected(text, server)
        if reason:
            return CannotConnectError(reason)
    trailers: Iterable[Any] = error.trailing_metadata() or ()
    request_id = next((str(value) for key, value in trailers if key == _REQUEST_ID_KEY), "")
    return _ERRORS.get(code, ServerError)(text, code=code.name, request_id=request_id)


def error_of_status(number: int, message: str) -> ClientError:
    """The exception for the status of one request on a stream.

    Args:
        number: A gRPC status code.
        message: The server's text.
    """
    code = next((one for one in grpc.StatusCode if one.value[0] == number), grpc.StatusCode.UNKNOWN)
    if code is grpc.StatusCode.INVALID_ARGUMENT:
        return InvalidImageError(message)
    return _ERRORS.get(code, ServerError)(message, code=code.name)


def _why_not_connected(text: str, server: str) -> str:
    for part, advice in _NO_CONNECTION:
        if part in text:
            return f"cannot connect to {server}: {advice}"
    return ""
