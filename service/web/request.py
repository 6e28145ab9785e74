"""A request over HTTP, independent of the server that read it: another process may answer it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from convd.service.cancellation import Cancellation
from convd.service.quoting import quote
from convd.service.web.routes import Route

REQUEST_ID_HEADER = "X-Request-Id"

MAX_HEAD_BYTES = 16 * 1024
"""Maximum size of what comes before a body."""


@dataclass(frozen=True)
class Head:
    """What is known of a request before its body is read.

    Attributes:
        method: Its method.
        path: Its path, with escapes resolved.
        query: The values of each parameter.
        headers: The last value of each header, by name in lower case.
    """

    method: str
    path: str
    query: Mapping[str, Sequence[str]]
    headers: Mapping[str, str]

    def parameter(self, name: str) -> str:
        """The last value of a parameter; empty if there is none."""
        return self.query.get(name, ("",))[-1]

    @property
    def request_id(self) -> str:
        """The client's id for it; empty if it has none that could be sent back."""
        text = self.headers.get(REQUEST_ID_HEADER.lower(), "")
        return quote(text) if text.isascii() and text.isprintable() else ""


@dataclass(frozen=True)
class Request:
    """A whole request.

    Attributes:
        head: What came before its body.
        route: The route of its path.
        segments: The variable parts of its path, by name.
        body: Its body.
        arrived_at: When its first byte was read, in seconds of `time.monotonic`, which all
            processes of a machine share.
        principal: Name of the principal that sends it; empty where anyone may do everything.
        may_know_reasons: Whether its answer may say why the server does not live or is not ready.
        cancellation: Set when the client hangs up; not in another process.
    """

    head: Head
    route: Route
    segments: Mapping[str, str]
    body: bytes
    arrived_at: float
    principal: str = ""
    may_know_reasons: bool = True
    cancellation: Cancellation = field(default_factory=Cancellation)
