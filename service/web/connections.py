"""One connection of the HTTP port, with bounds: idle, slow and half-sent ones make room."""

import asyncio
import contextlib
import sys
import time
from collections.abc import Collection
from http import HTTPStatus

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from convd.service.web.https import CLIENT_CERTIFICATE, client_certificate

MAX_CONNECTIONS = 256
"""Connections that may be open at the same time, unless all of them are being answered."""

SPARE_CONNECTIONS = 32
"""Of these, the ones that are kept free, while there is an idle one to close."""

_IDLE_SECONDS = 75.0
_REQUEST_SECONDS = 20.0
_ANSWER_SECONDS = 60.0
_SLOWEST_BYTES_PER_SECOND = 64 * 1024


class BoundedConnection(H11Protocol):
    """A connection that knows what it is doing, and since when.

    A client that sends or takes a byte now and then is active for ever; so what counts is for how
    long a request or an answer has been on its way.
    """

    _state = ""
    _since = 0.0
    _received_bytes = 0
    _looked_cycle: RequestResponseCycle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a new connection, at the expense of the idlest ones where there are many."""
        super().connection_made(transport)
        # The application finds it in `state` of each request.
        self.app_state[CLIENT_CERTIFICATE] = client_certificate(transport)
        self._look()
        make_room(self.connections, self)  # type: ignore[arg-type]

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of the last request, which refers to this connection: nobody collects cycles."""
        super().connection_lost(exc)
        self.cycle = self._looked_cycle = None  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        """Count what arrives."""
        self._received_bytes += len(data)
        super().data_received(data)
        # What it does now it has done since now, not since somebody looks for the idlest one.
        self._look()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002
        """Refuse a request that is not HTTP or too long, with the status that h11 proposes."""
        error = sys.exception()
        hint = error.error_status_hint if isinstance(error, h11.RemoteProtocolError) else 400
        # After the beginning of an answer there can be no other one.
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            status = HTTPStatus(hint)
            body = f"{status.phrase}: {error}\n".encode()
            for event in (
                h11.Response(
                    status_code=status,
                    headers=[
                        ("Content-Type", "text/plain; charset=utf-8"),
                        ("Content-Length", str(len(body))),
                        ("Connection", "close"),
                    ],
                    reason=status.phrase,
                ),
                h11.Data(data=body),
                h11.EndOfMessage(),
            ):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def shutdown(self) -> None:
        """End it; an answer in progress is sent first."""
        # A connection that broke the protocol is about to be closed anyway.
        with contextlib.suppress(h11.LocalProtocolError):
            super().shutdown()

    def seconds_left(self) -> float:
        """How long it may go on with what it does."""
        self._look()
        return self._since + self._limit_seconds() - time.monotonic()

    @property
    def makes_room(self) -> bool:
        """Whether it may be closed for others: nothing of it is being answered."""
        self._look()
        return self._state in ("idle", "sending")

    @property
    def since(self) -> float:
        """When it began what it does, in seconds of `time.monotonic`."""
        return self._since

    def _look(self) -> None:
        state = self._doing()
        if state != self._state or self.cycle is not self._looked_cycle:
            self._state, self._looked_cycle = state, self.cycle
            self._since = time.monotonic()
            self._received_bytes = 0

    def _doing(self) -> str:
        cycle = self.cycle
        if self.transport.get_write_buffer_size():
            return "taking"
        if cycle is not None and not cycle.response_complete:
            return "sending body" if cycle.more_body else "answered"
        # Part of a head, or the rest of a body that was refused.
        if self.conn.trailing_data[0] or self.conn.their_state is h11.SEND_BODY:
            return "sending"
        return "idle"

    def _limit_seconds(self) -> float:
        if self._state == "answered":
            return float("inf")
        if self._state == "taking":
            return _ANSWER_SECONDS
        if self._state == "sending body":
            return _REQUEST_SECONDS + self._received_bytes / _SLOWEST_BYTES_PER_SECOND
        return _IDLE_SECONDS if self._state == "idle" and self.cycle else _REQUEST_SECONDS


def close_overdue(connections: Collection[BoundedConnection]) -> None:
    """Close what takes too long; to be called every second or so."""
    for connection in list(connections):
        if connection.seconds_left() < 0:
            connection.transport.abort()


def make_room(connections: Collection[BoundedConnection], newest: BoundedConnection) -> None:
    """Close the connections that have done nothing for longest, where there are many.

    Args:
        connections: All of them.
        newest: The one that they make room for: its request may be on its way.
    """
    # Those that are closed already are in the collection until the loop comes to them: counted as
    # open, a burst of new connections would end in closing the very last.
    still_open = [one for one in connections if not one.transport.is_closing()]
    surplus = len(still_open) - (MAX_CONNECTIONS - SPARE_CONNECTIONS)
    if surplus > 0:
        idle = [one for one in still_open if one.makes_room and one is not newest]
        for connection in sorted(idle, key=lambda one: one.since)[:surplus]:
            connection.transport.abort()
