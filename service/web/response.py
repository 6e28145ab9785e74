"""A response of the site, with the headers of every response."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from convd.service.calls.call import Call
from convd.service.calls.status import error_status

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse

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

_SECURITY_HEADERS = (
    ("Content-Security-Policy", _CONTENT_SECURITY_POLICY),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Referrer-Policy", "no-referrer"),
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    # Every response shows the current state.
    ("Cache-Control", "no-store"),
)

_REASON_PHRASES = {status.value: status.phrase for status in HTTPStatus}


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

    def send(self, start: "StartResponse", *, with_body: bool) -> Iterable[bytes]:
        """Send it as the response to a WSGI request."""
        headers = [
            ("Content-Type", self.content_type),
            ("Content-Length", str(len(self.body))),
            *_SECURITY_HEADERS,
            *self.headers,
        ]
        start(f"{int(self.status)} {_REASON_PHRASES.get(self.status, 'Unknown')}", headers)
        return [self.body] if with_body else []


def with_security_headers(start: "StartResponse") -> "StartResponse":
    """Add the headers of every response to one that another application makes."""

    def started(status: str, headers: list[tuple[str, str]], *more: Any) -> Any:  # noqa: ANN401
        return start(status, [*headers, *_SECURITY_HEADERS], *more)

    return started


def text(content: str, status: int = HTTPStatus.OK) -> Response:
    """Make a response of one line of plain text."""
    return Response(f"{content}\n".encode(), "text/plain; charset=utf-8", status)


def json_response(content: object, status: int = HTTPStatus.OK) -> Response:
    """Make a response of a JSON document."""
    body = json.dumps(content, ensure_ascii=False, allow_nan=False).encode()
    return Response(body, "application/json", status)


def error_response(error: Exception, call: Call | None = None) -> Response:
    """Make a response with the status and text that an RPC would get.

    Args:
        error: The error.
        call: The call that it ends, which learns the status code; None for a request that is not
            recorded.
    """
    call = call or Call()
    status = error_status(error, call)
    call.code = status.code.name
    content = {
        "code": status.code.name,
        "message": status.message,
        "request_id": call.request_id,
    }
    return json_response(content, status.http)
