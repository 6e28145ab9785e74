"""A request of the console, independent of WSGI: another process may answer it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

_HEADERS = ("x-request-id", "traceparent", "tracestate")


@dataclass(frozen=True)
class Request:
    """One request of a browser.

    Attributes:
        path: Its path.
        query: Its parameters; the last value of each name.
        headers: The headers that concern a call, by name in lower case.
        body: Its body.
    """

    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes

    @classmethod
    def read(cls, environ: "WSGIEnvironment") -> "Request":
        """Read a WSGI request; the server has already bounded its body."""
        query = {key: values[-1] for key, values in parse_qs(environ["QUERY_STRING"]).items()}
        headers = {name: environ.get(f"HTTP_{name.upper().replace('-', '_')}") for name in _HEADERS}
        return cls(
            path=environ["PATH_INFO"],
            query=query,
            headers={name: str(value) for name, value in headers.items() if value is not None},
            body=environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0)),
        )
