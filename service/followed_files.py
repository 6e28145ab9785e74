"""Files that are read again while the server runs: certificates, and who may do what."""

import logging
import math
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

logger = logging.getLogger(__name__)

LOOK_SECONDS = 0.5
RETRY_SECONDS = 10.0

_Signature = tuple[tuple[int, ...], ...]


class FollowedFiles:
    """Calls a function whenever files have changed, once they have been left alone for a moment.

    Kubernetes changes mounted files by a link's new target, which counts as a change too.

    Args:
        files: The files.
        changed: Called in a thread of its own after a change; returns whether it could use the
            files. If not, it is called again without a change too, for what was in the way may
            not be in the files: rights, or too many open files. What it raises is logged.
        retry_seconds: After how long it is called again.
    """

    def __init__(
        self,
        files: Sequence[Path],
        changed: Callable[[], bool],
        *,
        retry_seconds: float = RETRY_SECONDS,
    ) -> None:
        self._files = files
        self._changed = changed
        self._retry_seconds = retry_seconds
        self._known = self._seen = self._signature()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="followed-files", daemon=True)

    def start(self) -> None:
        """Start to look."""
        self._thread.start()

    def stop(self) -> None:
        """Stop looking."""
        self._stopped.set()

    def _follow(self) -> None:
        retry_at = math.inf
        while not self._stopped.wait(LOOK_SECONDS):
            signature = self._signature()
            # Files that belong together, such as a certificate and its key, are seldom replaced at
            # the same time.
            settled, self._seen = signature == self._seen, signature
            is_known = signature == self._known and time.monotonic() < retry_at
            if not settled or is_known:
                continue
            self._known = signature
            usable = False
            try:
                usable = self._changed()
            # The server goes on with what it has read before.
            except Exception:
                logger.exception("%s cannot be read again", ", ".join(map(str, self._files)))
            retry_at = math.inf if usable else time.monotonic() + self._retry_seconds

    def _signature(self) -> _Signature:
        return tuple(_state(file) for file in self._files)


def _state(file: Path) -> tuple[int, ...]:
    """What differs once a file was changed or replaced; empty while there is none."""
    try:
        status = file.stat()
    except OSError:
        return ()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
