"""What the site answers, and the headers that every answer carries."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

from convd.service.calls.call import Call
from convd.service.calls.status import error_status

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse

# Nothing may come from or go to another host, no script or style may stand in the page itself, and
# markup reaches the page only through the one policy that the console names.
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
    # What is shown is the state of this moment.
    ("Cache-Control", "no-store"),
)

_REASON_PHRASES = {status.value: status.phrase for status in HTTPStatus}


@dataclass(frozen=True)
class Response:
    """One answer.

    Attributes:
        body: What is sent.
        content_type: Its media type.
        status: Status of the answer.
        headers: Headers beside the type and those of every answer.
    """

    body: bytes
    content_type: str
    status: int = HTTPStatus.OK
    headers: tuple[tuple[str, str], ...] = ()

    def send(self, start: "StartResponse", *, with_body: bool) -> Iterable[bytes]:
        """Answer a WSGI request."""
        headers = [
            ("Content-Type", self.content_type),
            ("Content-Length", str(len(self.body))),
            *_SECURITY_HEADERS,
            *self.headers,
        ]
        start(f"{int(self.status)} {_REASON_PHRASES.get(self.status, 'Unknown')}", headers)
        return [self.body] if with_body else []


def text(content: str, status: int = HTTPStatus.OK) -> Response:
    """One line of plain text."""
    return Response(f"{content}\n".encode(), "text/plain; charset=utf-8", status)


def json_response(content: object, status: int = HTTPStatus.OK) -> Response:
    """A JSON document."""
    body = json.dumps(content, ensure_ascii=False, allow_nan=False).encode()
    return Response(body, "application/json", status)


def error_response(error: Exception, call: Call | None = None) -> Response:
    """Say what an RPC would say, and note the code in the call.

    Args:
        error: What went wrong.
        call: The call that it ended.
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
