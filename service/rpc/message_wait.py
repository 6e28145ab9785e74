"""Ends calls whose message does not arrive: each of them holds a thread."""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import grpc

logger = logging.getLogger(__name__)

_LOOK_SECONDS = 0.5


class MessageWait:
    """Watches calls that wait for their message, and cancels them when their time is up.

    Args:
        timeout_seconds: How long a message may take to arrive.
    """

    def __init__(self, timeout_seconds: float) -> None:
        self._timeout_seconds = timeout_seconds
        self._waiting: dict[grpc.ServicerContext, float] = {}
        self._lock = threading.Lock()
        self._is_watching = False

    @contextmanager
    def watch(self, context: grpc.ServicerContext) -> Iterator[None]:
        """Cancel a call unless its message arrives while in this context, and in time."""
        with self._lock:
            self._waiting[context] = time.monotonic() + self._timeout_seconds
            if not self._is_watching:
                self._is_watching = True
                threading.Thread(target=self._end_late, name="message-wait", daemon=True).start()
        try:
            yield
        finally:
            with self._lock:
                self._waiting.pop(context, None)

    def _end_late(self) -> None:
        while True:
            time.sleep(_LOOK_SECONDS)
            now = time.monotonic()
            with self._lock:
                late = [context for context, until in self._waiting.items() if until <= now]
                for context in late:
                    del self._waiting[context]
                if not self._waiting and not late:
                    self._is_watching = False
                    return
            for context in late:
                context.cancel()  # type: ignore[no-untyped-call]
            if late:
                logger.warning(
                    "%d calls were ended: their message did not arrive within %g s",
                    len(late),
                    self._timeout_seconds,
                )
