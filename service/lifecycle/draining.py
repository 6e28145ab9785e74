"""Draining: a servable is closed once its last request has ended."""

import logging
import threading
import time
from collections.abc import Callable

from convd.service.servables.servable import Servable

logger = logging.getLogger(__name__)

_WARNING_SECONDS = 60.0


class Drains:
    """Waits in the background for servables to become free, while others are loaded."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._draining: dict[Servable, threading.Thread] = {}

    def begin(self, servable: Servable, on_end: Callable[[], None]) -> None:
        """Wait in the background until a servable has no holders, then close it.

        Args:
            servable: The servable; new requests can no longer acquire it.
            on_end: Called once it is closed.
        """

        def drain() -> None:
            while not servable.drain(_WARNING_SECONDS):
                logger.warning(
                    "%s version %d is still draining: requests are in progress",
                    servable.name,
                    servable.version,
                )
            servable.close()
            with self._lock:
                del self._draining[servable]
            on_end()

        thread = threading.Thread(target=drain, name="drain", daemon=True)
        with self._lock:
            self._draining[servable] = thread
        thread.start()

    def wait(self, timeout_seconds: float) -> None:
        """Wait for all servables, for at most this long, then close the remaining ones."""
        deadline = time.monotonic() + timeout_seconds
        with self._lock:
            draining = dict(self._draining)
        for servable, thread in draining.items():
            thread.join(max(deadline - time.monotonic(), 0.0))
            if thread.is_alive():
                logger.warning(
                    "%s version %d did not drain in time; its requests are refused",
                    servable.name,
                    servable.version,
                )
                servable.close()
