"""The queue of waiting rows: a pure data structure, without a thread, a lock or a clock."""

import math
import threading
from collections import OrderedDict
from collections.abc import Iterator

from convd.service.batching.engine import Outputs
from convd.service.batching.entry import Batch, Entry, EntryState, Priority

# While both levels wait, one row of normal priority is collected for this many of high priority.
HIGH_ROWS_PER_NORMAL_ROW = 8


class WaitingQueue:
    """Entries in order of arrival within two levels of priority.

    Attributes:
        waiting_rows: Rows that wait for collection now.
        earliest_deadline: No waiting entry has an earlier one; it is exact while no entry leaves.
        locks: Locks for which threads wait that can go on. Whoever drives the queue takes and
            releases them.
    """

    def __init__(self) -> None:
        self.waiting_rows = 0
        self.earliest_deadline = math.inf
        self.locks: list[threading.Lock] = []
        # OrderedDict as a set: a cancelled entry leaves from the middle in constant time.
        self._high: OrderedDict[Entry, None] = OrderedDict()
        self._normal: OrderedDict[Entry, None] = OrderedDict()
        self._high_rows = 0
        self._high_lead = 0

    @property
    def waiting_requests(self) -> int:
        """Entries with rows to collect."""
        return len(self._high) + len(self._normal)

    def rows_ahead(self, priority: Priority) -> int:
        """Return how many rows would be collected before those of a new entry."""
        return self._high_rows if priority is Priority.HIGH else self.waiting_rows

    def ahead(self, priority: Priority) -> Iterator[Entry]:
        """Iterate over the entries that would be collected before a new one."""
        yield from self._high
        if priority is Priority.NORMAL:
            yield from self._normal

    def in_order(self) -> Iterator[Entry]:
        """Iterate over all entries with rows to collect, high priority first."""
        return self.ahead(Priority.NORMAL)

    def oldest_arrival(self) -> float:
        """Return when the entry that waits longest arrived; infinity if none waits."""
        heads = [next(iter(level)) for level in (self._high, self._normal) if level]
        return min((entry.arrived_at for entry in heads), default=math.inf)

    def push(self, entry: Entry) -> None:
        """Let an entry wait."""
        if not self.waiting_rows or entry.deadline < self.earliest_deadline:
            self.earliest_deadline = entry.deadline
        self.waiting_rows += entry.size
        if entry.priority is Priority.HIGH:
            self._high_rows += entry.size
            self._high[entry] = None
        else:
            self._normal[entry] = None

    def collect(self, rows: int, ends_at: float, now: float) -> Batch:
        """Form a batch of the rows that come first.

        An entry that does not fit is split: the batch takes its first rows and the next batch goes
        on from there. Entries that are too late for the batch are settled as expired on the way.

        Args:
            rows: Rows of the batch, if as many wait.
            ends_at: When the batch will end: entries with an earlier deadline expire.
            now: The time, in seconds of the monotonic clock.

        Returns:
            The batch; it is empty if no rows are left.
        """
        batch = Batch()
        while batch.rows < rows and self.waiting_rows:
            level = self._high
            if not level or (self._normal and self._high_lead >= HIGH_ROWS_PER_NORMAL_ROW):
                level = self._normal
            entry = next(iter(level))
            if entry.deadline <= now or entry.deadline < ends_at:
                self.drop(entry, EntryState.EXPIRED, now)
                continue
            array = entry.rows
            assert array is not None, "an entry with rows to collect has them"  # noqa: S101
            count = min(rows - batch.rows, entry.size - entry.collected)
            if count != entry.size:
                array = array[entry.collected : entry.collected + count]
            if self._high:
                self._note_lead(entry, count)
            entry.pieces.append((batch, batch.rows, count))
            batch.arrays.append(array)
            batch.owners.append(entry)
            batch.rows += count
            if entry.trace is not None:
                batch.traces.append(entry.trace)
            if entry.extras:
                batch.extras |= entry.extras
            entry.collected += count
            self.waiting_rows -= count
            if level is self._high:
                self._high_rows -= count
            if entry.collected == entry.size:
                del level[entry]
                entry.rows = None
        return batch

    def deliver(self, batch: Batch, outputs: Outputs, inference_seconds: float, now: float) -> None:
        """Record the answer to a batch, and settle every entry that it completes.

        Args:
            batch: A batch that `collect` formed.
            outputs: Arrays of as many rows as the batch has.
            inference_seconds: How long the engine took.
            now: The time, in seconds of the monotonic clock.
        """
        batch.outputs = outputs
        batch.inference_seconds = inference_seconds
        for entry, array in zip(batch.owners, batch.arrays, strict=True):
            if entry.state is not EntryState.WAITING:
                continue
            entry.unanswered -= len(array)
            if entry.deadline <= now:
                self.drop(entry, EntryState.EXPIRED, now)
            elif not entry.unanswered:
                entry.settle(EntryState.ANSWERED, now)
                self.locks.append(entry.settled)

    def fail(self, batch: Batch, cause: BaseException, now: float) -> None:
        """Record that a batch failed; rows of its entries that still wait leave the queue."""
        for entry in batch.owners:
            if entry.state is EntryState.WAITING:
                entry.cause = cause
                self._remove(entry)
                entry.settle(EntryState.FAILED, now)
                self.locks.append(entry.settled)

    def drop(self, entry: Entry, state: EntryState, now: float) -> None:
        """Take an entry out, wherever it stands; does nothing once it is settled.

        Args:
            entry: An entry that was pushed.
            state: CANCELLED, EXPIRED or REFUSED.
            now: The time, in seconds of the monotonic clock.
        """
        if entry.state is EntryState.WAITING:
            self._remove(entry)
            entry.settle(state, now)
            self.locks.append(entry.settled)

    def _note_lead(self, entry: Entry, count: int) -> None:
        if not self._normal:
            self._high_lead = 0
        elif entry.priority is Priority.HIGH:
            self._high_lead += count
        else:
            self._high_lead -= count * HIGH_ROWS_PER_NORMAL_ROW

    def _remove(self, entry: Entry) -> None:
        """Take the rows that are not collected yet out of the queue."""
        rows = entry.size - entry.collected
        # Rows of low priority wait elsewhere.
        if rows and entry.priority is not Priority.LOW:
            self._count_out(entry, rows)
            del (self._high if entry.priority is Priority.HIGH else self._normal)[entry]

    def _count_out(self, entry: Entry, rows: int) -> None:
        self.waiting_rows -= rows
        if entry.priority is Priority.HIGH:
            self._high_rows -= rows
