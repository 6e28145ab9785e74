"""The gate that every call passes: open while serving, closed while draining."""

import threading
import time
from collections.abc import Iterator
from typing import TypeVar

from convd.service.calls.call import Call
from convd.service.errors import UnavailableError

DRAINING = "the server is shutting down: send the call to another server"

_Message = TypeVar("_Message")


class CallGate:
    """Tracks the calls in progress and the calls that still arrive, so that a drain can wait.

    Attributes:
        closed: Whether new calls are refused.
        in_progress: Accepted calls that have not ended; the interceptor adds each as it begins.
    """

    def __init__(self) -> None:
        self.closed = False
        self.in_progress: set[Call] = set()
        self._last_refusal = 0.0
        self._ended = threading.Condition()

    def enter(self, call: Call) -> None:
        """Accept a call, or refuse it.

        Raises:
            UnavailableError: The gate is closed.
        """
        self.in_progress.add(call)
        if self.closed:
            self.leave(call)
            self.refuse()
            raise UnavailableError(DRAINING)

    def leave(self, call: Call) -> None:
        """Note that an accepted call has ended."""
        # A set needs no lock of its own to add and to discard. `close` writes the flag and then
        # looks at the set, this changes the set and then reads the flag: one sees the other.
        self.in_progress.discard(call)
        if self.closed:
            with self._ended:
                self._ended.notify_all()

    def requests(self, messages: Iterator[_Message], call: Call) -> Iterator[_Message]:
        """Iterate over the messages of an accepted stream, which does not count while it waits.

        Raises:
            UnavailableError: The gate is closed.
        """
        while not self.closed:
            self.leave(call)
            try:
                message = next(messages, None)
            finally:
                self.in_progress.add(call)
            if message is None:
                return
            yield message
        raise UnavailableError(DRAINING)

    def refuse(self) -> None:
        """Record that a call was refused because of the drain."""
        self._last_refusal = time.monotonic()

    def close(self) -> None:
        """Refuse calls that arrive from now on."""
        self.closed = True

    def wait_until_empty(self, timeout_seconds: float) -> bool:
        """Wait until every accepted call has ended; False on timeout."""
        with self._ended:
            return self._ended.wait_for(lambda: not self.in_progress, timeout_seconds)

    def wait_until_quiet(self, quiet_seconds: float, timeout_seconds: float) -> None:
        """Wait until no call has been refused for `quiet_seconds`, or until the timeout."""
        started = time.monotonic()
        while True:
            now = time.monotonic()
            quiet_at = max(self._last_refusal, started) + quiet_seconds
            if now >= min(quiet_at, started + timeout_seconds):
                return
            time.sleep(min(quiet_at, started + timeout_seconds) - now)
