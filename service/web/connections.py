"""Bounds of the HTTP side's connections: idle, slow and half-sent ones make room for others."""

import time
from collections.abc import Iterable
from typing import Protocol

MAX_CONNECTIONS = 256
"""Connections that may be open at the same time."""

_SPARE = 32
_REQUEST_SECONDS = 20.0
_ANSWER_SECONDS = 60.0


class Connection(Protocol):
    """What is asked of a connection, in waitress's words.

    Attributes:
        requests: Whole requests that are being answered.
        request: A request of which a part has arrived; None where there is none.
        total_outbufs_len: Bytes of answers that the client has not taken yet.
        last_activity: When bytes last went in or out, in seconds of `time.time`.
    """

    requests: list[object]
    request: object | None
    total_outbufs_len: int
    last_activity: float

    def handle_close(self) -> None:
        """Close it at once."""


class ConnectionBounds:
    """Closes connections that have taken too long, and the idlest when there are many.

    A client that sends or reads a byte now and then is active for ever; so what counts is for how
    long a request or an answer has been on its way.
    """

    def __init__(self) -> None:
        self._since: dict[int, tuple[str, float]] = {}

    def enforce(self, connections: Iterable[Connection]) -> None:
        """Close what is over its bounds; to be called every second or so, and for every arrival."""
        now = time.monotonic()
        since: dict[int, tuple[str, float]] = {}
        idle: list[Connection] = []
        count = 0
        for connection in list(connections):
            count += 1
            state, limit_seconds = _state(connection)
            before = self._since.get(id(connection))
            started = before[1] if before is not None and before[0] == state else now
            if now - started > limit_seconds:
                connection.handle_close()
                count -= 1
                continue
            since[id(connection)] = (state, started)
            if state in ("idle", "sending"):
                idle.append(connection)
        self._since = since
        for connection in sorted(idle, key=lambda one: one.last_activity):
            if count <= MAX_CONNECTIONS - _SPARE:
                break
            connection.handle_close()
            count -= 1


def _state(connection: Connection) -> tuple[str, float]:
    """What a connection does, and for how many seconds it may."""
    if connection.requests:
        return "answering", float("inf")
    if connection.total_outbufs_len:
        return "reading", _ANSWER_SECONDS
    if connection.request is not None:
        return "sending", _REQUEST_SECONDS
    return "idle", _REQUEST_SECONDS
