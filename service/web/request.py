"""What the console is asked, apart from how it came: it may be answered in another process."""

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
        query: Its parameters; of several with one name the last.
        headers: Those that matter to a call, by name in lower case.
        body: What was sent.
    """

    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes

    @classmethod
    def read(cls, environ: "WSGIEnvironment") -> "Request":
        """Read a WSGI request; its body has been bounded by the server."""
        query = {key: values[-1] for key, values in parse_qs(environ["QUERY_STRING"]).items()}
        headers = {name: environ.get(f"HTTP_{name.upper().replace('-', '_')}") for name in _HEADERS}
        return cls(
            path=environ["PATH_INFO"],
            query=query,
            headers={name: str(value) for name, value in headers.items() if value is not None},
            body=environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0)),
        )
