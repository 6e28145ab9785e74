"""Gathering: a batch that waits a while for rows to join it, under `max_queue_delay`."""

from convd.service.batching.entry import Entry
from convd.service.batching.waiting_queue import WaitingQueue


class Gathering:
    """Says which thread lets rows gather, and for how long.

    Args:
        queue: The rows that wait.
        max_batch_size: Nobody gathers once so many rows wait.
        max_queue_delay_seconds: How long rows may wait for others; 0 for not at all.

    Attributes:
        wanted: Whether rows wait for others at all.
    """

    def __init__(
        self, queue: WaitingQueue, max_batch_size: int, max_queue_delay_seconds: float
    ) -> None:
        self.wanted = max_queue_delay_seconds > 0
        self._queue = queue
        self._max_batch_size = max_batch_size
        self._max_queue_delay_seconds = max_queue_delay_seconds
        self._entry: Entry | None = None

    @property
    def goes_on(self) -> bool:
        """Whether some thread lets rows gather now."""
        return self._entry is not None

    def is_by(self, entry: Entry) -> bool:
        """Whether it is an entry's thread that lets rows gather now."""
        return entry is self._entry

    def start(self, entry: Entry, now: float) -> float:
        """Return for how many seconds an entry's thread shall let other rows join those that wait.

        If that is more than 0, the thread sleeps on `wake`, which is released when there is no more
        reason to, and then calls `end`.
        """
        ends_at = self._queue.oldest_arrival() + self._max_queue_delay_seconds
        seconds = min(ends_at, entry.deadline) - now
        full = self._queue.waiting_rows >= self._max_batch_size
        has_cores = entry.slot is not None and entry.slot.has_cores
        if seconds <= 0 or full or has_cores or self.goes_on:
            return 0.0
        self._entry = entry
        return seconds

    def end(self, entry: Entry, *, told: bool) -> None:
        """Note that an entry's thread has stopped gathering, told to or by itself."""
        if self._entry is entry:
            self._entry = None
        elif not told:
            # Told to stop just as the time was up.
            entry.wake.acquire()

    def stop(self) -> None:
        """Wake the thread that lets others join, if there is one."""
        if self._entry is not None:
            self._entry.wake.release()
            self._entry = None

    def note_arrival(self) -> None:
        """Stop once the batch is full."""
        if self._queue.waiting_rows >= self._max_batch_size:
            self.stop()
