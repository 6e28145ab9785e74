"""The gate through which every call comes: open while serving, closed while draining."""

import threading
import time
from collections.abc import Iterator
from typing import TypeVar

from convd.service.errors import UnavailableError

DRAINING = "the server is draining: send the call to another one"

_Message = TypeVar("_Message")


class CallGate:
    """Knows what is in progress and what still arrives, so that draining can wait for it."""

    def __init__(self) -> None:
        self.closed = False
        self._accepted = 0
        self._last_refusal = 0.0
        # Every call takes it, and to take it through the condition costs twice as much.
        self._lock = threading.Lock()
        self._ended = threading.Condition(self._lock)

    def enter(self) -> None:
        """Count an accepted call that begins."""
        with self._lock:
            self._accepted += 1

    def leave(self) -> None:
        """Count an accepted call that ends."""
        with self._lock:
            self._accepted -= 1
            if self.closed:
                self._ended.notify_all()

    def requests(self, messages: Iterator[_Message]) -> Iterator[_Message]:
        """Take the requests of an accepted stream; while it waits for one, it does not count.

        Raises:
            UnavailableError: The gate is closed.
        """
        while not self.closed:
            self.leave()
            try:
                message = next(messages, None)
            finally:
                self.enter()
            if message is None:
                return
            yield message
        raise UnavailableError(DRAINING)

    def refuse(self) -> None:
        """Note that a call came too late."""
        self._last_refusal = time.monotonic()

    def close(self) -> None:
        """Refuse whatever arrives from now on."""
        self.closed = True

    def wait_until_empty(self, timeout_seconds: float) -> bool:
        """Wait until every accepted call has ended; False if that takes too long."""
        with self._ended:
            return self._ended.wait_for(lambda: self._accepted == 0, timeout_seconds)

    def wait_until_quiet(self, quiet_seconds: float, timeout_seconds: float) -> None:
        """Wait until nobody has come too late for a while, or the time is up."""
        started = time.monotonic()
        while True:
            now = time.monotonic()
            quiet_at = max(self._last_refusal, started) + quiet_seconds
            if now >= min(quiet_at, started + timeout_seconds):
                return
            time.sleep(min(quiet_at, started + timeout_seconds) - now)
