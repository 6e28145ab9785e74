"""Says in the log that calls are refused, without letting clients fill it."""

import logging
import threading
import time
from collections.abc import Callable

from convd.service.calls.call import Call

logger = logging.getLogger(__name__)

_PAUSE_SECONDS = 10.0

# Each of these has a line of its own, or concerns the caller alone.
_NOT_TOLD = frozenset(
    ("CANCELLED", "INTERNAL", "UNAUTHENTICATED", "PERMISSION_DENIED", "UNIMPLEMENTED")
)


class RefusalLog:
    """Logs one refused call of each status in ten seconds, with the number of those before it.

    Args:
        clock: A monotonic clock, in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._told: dict[str, float] = {}
        self._untold: dict[str, int] = {}

    def refused(self, call: Call) -> None:
        """Note a call that ended with another status than OK."""
        code = call.code
        if code in _NOT_TOLD:
            return
        now = self._clock()
        with self._lock:
            if now - self._told.get(code, -_PAUSE_SECONDS) < _PAUSE_SECONDS:
                self._untold[code] = self._untold.get(code, 0) + 1
                return
            self._told[code] = now
            others = self._untold.pop(code, 0)
        logger.warning(
            "refused %s%s with %s: %s%s",
            call.method,
            f" for {call.model}" if call.model else "",
            code,
            call.refusal or "no reason was given",
            f" ({others} others since the last such line)" if others else "",
        )
