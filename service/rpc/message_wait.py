"""Ends calls whose message does not arrive, or is not taken: each of them holds a thread."""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import grpc

logger = logging.getLogger(__name__)

_LOOK_SECONDS = 0.5


class MessageWait:
    """Watches calls that wait for a message, and cancels them when their time is up.

    Args:
        timeout_seconds: How long a call may wait.
        ended: Why calls are ended, for the log; follows the number of calls.
    """

    def __init__(self, timeout_seconds: float, ended: str) -> None:
        self._timeout_seconds = timeout_seconds
        self._ended = ended
        # In the order in which they began to wait.
        self._waiting: dict[grpc.ServicerContext, float] = {}
        self._lock = threading.Lock()
        self._is_watching = False

    @contextmanager
    def watch(self, context: grpc.ServicerContext) -> Iterator[None]:
        """Cancel a call unless it leaves this context in time."""
        with self._lock:
            self._waiting[context] = time.monotonic()
            if not self._is_watching:
                self._is_watching = True
                threading.Thread(target=self._end_late, name="message-wait", daemon=True).start()
        try:
            yield
        finally:
            with self._lock:
                self._waiting.pop(context, None)

    def end_longest(self, min_seconds: float) -> bool:
        """Cancel the call that has waited longest, if that is long enough.

        Returns:
            Whether there was such a call.
        """
        with self._lock:
            context = next(iter(self._waiting), None)
            if context is None or time.monotonic() - self._waiting[context] < min_seconds:
                return False
            del self._waiting[context]
        context.cancel()  # type: ignore[no-untyped-call]
        return True

    def _end_late(self) -> None:
        while True:
            time.sleep(_LOOK_SECONDS)
            since = time.monotonic() - self._timeout_seconds
            with self._lock:
                late = [context for context, began in self._waiting.items() if began <= since]
                for context in late:
                    del self._waiting[context]
                if not self._waiting and not late:
                    self._is_watching = False
                    return
            for context in late:
                context.cancel()  # type: ignore[no-untyped-call]
            if late:
                logger.warning("%d %s within %g s", len(late), self._ended, self._timeout_seconds)
