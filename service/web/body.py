"""Reads the bodies of requests within bounds: of one body, and of all that are held at one time."""

from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus

from convd.service.errors import CallerGoneError, QueueFullError
from convd.service.web.asgi import Receive


class RequestTooLargeError(Exception):
    """A head or a body is over its limit.

    Args:
        text: What the limit is.
        http: The HTTP status.
    """

    def __init__(self, text: str, http: HTTPStatus) -> None:
        super().__init__(text)
        self.http = http


class Bodies:
    """Counts the bytes of all bodies that are being read or worked on.

    What counts is what has arrived, not what a request claims to be sending: else a few claims
    would lock out everyone. Its methods are to be called in one event loop.

    Args:
        limit_bytes: Maximum of all bodies together.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._held_bytes = 0

    @contextmanager
    def one(self, receive: Receive, max_bytes: int) -> "Iterator[Body]":
        """A body, whose bytes count until the block ends."""
        body = Body(self, receive, max_bytes)
        try:
            yield body
        finally:
            self._held_bytes -= body.size_bytes

    def take(self, size_bytes: int) -> None:
        """Count bytes that have arrived.

        Raises:
            QueueFullError: All bodies together are over the limit.
        """
        if self._held_bytes + size_bytes > self._limit_bytes:
            raise QueueFullError(
                f"the requests in progress hold {self._held_bytes} bytes, and the limit of all "
                f"together is {self._limit_bytes}: try again shortly"
            )
        self._held_bytes += size_bytes


class Body:
    """The body of one request.

    Args:
        bodies: Counts its bytes.
        receive: Receives the next part of it.
        max_bytes: Its maximum size.

    Attributes:
        size_bytes: What has arrived so far.
    """

    def __init__(self, bodies: Bodies, receive: Receive, max_bytes: int) -> None:
        self._bodies = bodies
        self._receive = receive
        self._max_bytes = max_bytes
        self.size_bytes = 0

    async def read(self, content_length: str) -> bytes:
        """Read the whole body.

        Args:
            content_length: Its size as the request states it; empty if it does not.

        Raises:
            RequestTooLargeError: It is too large, or claims to be.
            QueueFullError: All bodies together are over their limit.
            CallerGoneError: The client hung up.
        """
        # The server has checked that it is a number.
        if content_length and int(content_length) > self._max_bytes:
            self._refuse()
        parts: list[bytes] = []
        more = True
        while more:
            message = await self._receive()
            if message["type"] != "http.request":
                raise CallerGoneError("the client hung up while it sent the body")
            part, more = message["body"], message["more_body"]
            if self.size_bytes + len(part) > self._max_bytes:
                self._refuse()
            self._bodies.take(len(part))
            self.size_bytes += len(part)
            parts.append(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _refuse(self) -> None:
        raise RequestTooLargeError(
            f"the body is over the limit of {self._max_bytes} bytes of this path"
            if self._max_bytes
            else "this path takes no body: send the request without one",
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        )
