"""One bound for the memory of all pictures that are being decoded and prepared."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from convd.artifact.errors import InvalidImageError
from convd.service.calls.call import Call
from convd.service.errors import QueueFullError

PATIENCE_SECONDS = 10.0
"""How long a picture waits for room at most; its caller's deadline may be sooner."""

MAX_WAITING = 16
"""Pictures that may wait for room at the same time: each keeps a thread that others could use."""

_SMALL_SHARE = 32
_HEED_SECONDS = 0.25


class DecodeBudget:
    """Memory that pictures reserve before they are decoded, and give back when they are prepared.

    Pictures are let in as they fit. Large ones together leave an eighth of the budget to small
    ones, those of less than a 32nd of it, so a few huge pictures do not keep usual ones waiting.

    Args:
        capacity_bytes: What all of them may take together.
    """

    def __init__(self, capacity_bytes: int) -> None:
        self.capacity_bytes = capacity_bytes
        self.reserved_bytes = 0
        self.waiting = 0
        self._changed = threading.Condition(threading.Lock())

    @contextmanager
    def reserve(self, size_bytes: int, call: Call) -> Iterator[None]:
        """Wait for room, and keep it while in the context.

        Args:
            size_bytes: What decoding and preparing will take at most.
            call: The call that the picture belongs to; its deadline and cancellation are heeded.

        Raises:
            InvalidImageError: It would not fit even if nothing else were decoded.
            QueueFullError: There is no room, and none came in time.
            CallerGoneError: The caller cancelled while it waited.
            DeadlineExceededError: The caller's deadline passed while it waited.
        """
        if size_bytes > self.capacity_bytes:
            raise InvalidImageError(
                f"decoding this picture takes {_mebibytes(size_bytes)}, over the budget of "
                f"{_mebibytes(self.capacity_bytes)} (--decode-budget-bytes): send a smaller one"
            )
        with self._changed:
            if not self._fits(size_bytes):
                self._wait(size_bytes, call)
            self.reserved_bytes += size_bytes
        try:
            yield
        finally:
            with self._changed:
                self.reserved_bytes -= size_bytes
                if self.waiting:
                    self._changed.notify_all()

    def _fits(self, size_bytes: int) -> bool:
        is_small = size_bytes * _SMALL_SHARE <= self.capacity_bytes
        kept_bytes = 0 if is_small or not self.reserved_bytes else self.capacity_bytes // 8
        return self.reserved_bytes + size_bytes <= self.capacity_bytes - kept_bytes

    def _wait(self, size_bytes: int, call: Call) -> None:
        if self.waiting >= MAX_WAITING:
            raise QueueFullError(
                f"{MAX_WAITING} pictures are waiting for memory to be decoded: try again with a "
                "pause"
            )
        until = time.monotonic() + PATIENCE_SECONDS
        self.waiting += 1
        try:
            while not self._fits(size_bytes):
                call.check_wanted()
                if time.monotonic() >= until:
                    raise QueueFullError(
                        f"no memory came free in {PATIENCE_SECONDS:g} s to decode this picture: "
                        "try again with a pause"
                    )
                self._changed.wait(_HEED_SECONDS)
        finally:
            self.waiting -= 1


def _mebibytes(size_bytes: int) -> str:
    return f"{size_bytes / 2**20:.0f} MiB"
