"""A response over HTTP, with the headers of every response."""

import json
import math
from dataclasses import dataclass
from http import HTTPStatus

from convd.service.calls.call import Call
from convd.service.calls.status import Status, error_status
from convd.service.errors import LimitExceededError

# No connections to other hosts, no inline scripts or styles, and markup only through the console's
# trusted-types policy.
_CONTENT_SECURITY_POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob: data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types model-card",
    ]
)

_SECURITY_HEADERS = tuple(
    (name.encode(), value.encode())
    for name, value in (
        ("Content-Security-Policy", _CONTENT_SECURITY_POLICY),
        ("Cross-Origin-Opener-Policy", "same-origin"),
        ("Cross-Origin-Resource-Policy", "same-origin"),
        ("Referrer-Policy", "no-referrer"),
        ("X-Content-Type-Options", "nosniff"),
        ("X-Frame-Options", "DENY"),
        # Every response shows the current state.
        ("Cache-Control", "no-store"),
    )
)

_TRY_AGAIN = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)
_RETRY_SECONDS = 1

PROBLEM = "application/problem+json"

_TITLES = {status.value: status.phrase for status in HTTPStatus}


@dataclass(frozen=True)
class Response:
    """One response.

    Attributes:
        body: Its body.
        content_type: Media type of the body.
        status: HTTP status.
        headers: Headers in addition to the content type and those of every response.
    """

    body: bytes
    content_type: str
    status: int = HTTPStatus.OK
    headers: tuple[tuple[str, str], ...] = ()

    def raw_headers(self) -> list[tuple[bytes, bytes]]:
        """All of its headers, as a server sends them."""
        return [
            (b"Content-Type", self.content_type.encode()),
            (b"Content-Length", str(len(self.body)).encode()),
            *_SECURITY_HEADERS,
            *((name.encode(), value.encode()) for name, value in self.headers),
        ]


def text(content: str, status: int = HTTPStatus.OK) -> Response:
    """Make a response of one line of plain text."""
    return Response(f"{content}\n".encode(), "text/plain; charset=utf-8", status)


def json_response(content: object, status: int = HTTPStatus.OK) -> Response:
    """Make a response of a JSON document."""
    return Response(_json(content), "application/json", status)


def error_response(error: Exception, call: Call | None = None) -> Response:
    """Make a response with the status and text that an RPC would get.

    The body is a problem document (RFC 9457). Its `error` repeats the text where the clients of the
    Open Inference Protocol look for it.

    Args:
        error: The error.
        call: The call that it ends, which learns the status code; None for a request that is not
            recorded.
    """
    call = call or Call()
    status = error_status(error, call)
    call.code = status.code.name
    after_seconds = error.retry_after_seconds if isinstance(error, LimitExceededError) else None
    return problem(status, call.request_id, math.ceil(after_seconds or _RETRY_SECONDS))


def problem(status: Status, request_id: str, retry_seconds: int = _RETRY_SECONDS) -> Response:
    """Make a problem document of a status.

    Args:
        status: The status.
        request_id: The id of the request.
        retry_seconds: When to try again, where that can help.
    """
    content = {
        "title": _TITLES.get(status.http, "Client Closed Request"),
        "status": int(status.http),
        "detail": status.message,
        "code": status.code.name,
        "request_id": request_id,
        "error": status.message,
    }
    headers: tuple[tuple[str, str], ...] = ()
    if status.http in _TRY_AGAIN:
        headers = (("Retry-After", str(retry_seconds)),)
    elif status.http == HTTPStatus.UNAUTHORIZED:
        headers = (("WWW-Authenticate", "Bearer"),)
    return Response(_json(content), PROBLEM, status.http, headers)


def _json(content: object) -> bytes:
    return json.dumps(content, ensure_ascii=False, allow_nan=False).encode()
