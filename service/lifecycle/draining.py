"""The end of servables: each is let go of when nobody uses it any more."""

import logging
import threading
import time
from collections.abc import Callable

from convd.service.servables.servable import Servable

logger = logging.getLogger(__name__)

_WARNING_SECONDS = 60.0


class Drains:
    """Waits for servables to be free, in the background, so that others can be loaded meanwhile."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._draining: dict[Servable, threading.Thread] = {}

    def begin(self, servable: Servable, on_end: Callable[[], None]) -> None:
        """Wait in the background until nobody holds a servable, and close it.

        Args:
            servable: What nobody can acquire any more.
            on_end: Called when it is closed.
        """

        def drain() -> None:
            while not servable.drain(_WARNING_SECONDS):
                logger.warning("%s version %d still answers", servable.name, servable.version)
            servable.close()
            with self._lock:
                del self._draining[servable]
            on_end()

        thread = threading.Thread(target=drain, name="drain", daemon=True)
        with self._lock:
            self._draining[servable] = thread
        thread.start()

    def wait(self, timeout_seconds: float) -> None:
        """Wait for all of them, for a time at most; then close those that are left."""
        deadline = time.monotonic() + timeout_seconds
        with self._lock:
            draining = dict(self._draining)
        for servable, thread in draining.items():
            thread.join(max(deadline - time.monotonic(), 0.0))
            if thread.is_alive():
                logger.warning("%s version %d did not drain", servable.name, servable.version)
                servable.close()
