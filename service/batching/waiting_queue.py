"""The queue of waiting rows: a pure data structure.

It has no thread, no lock and no clock. The batcher holds its own lock around every call and passes
the time in, so that tests can walk through any interleaving.
"""

import math
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence

from convd.service.batching.engine import Outputs
from convd.service.batching.entry import Batch, Entry, EntryState, Priority
from convd.service.batching.planning import next_batch
from convd.service.errors import QueueFullError

# While both levels wait, one row of normal priority is collected for this many of high priority.
HIGH_ROWS_PER_NORMAL_ROW = 8


def _at_no_cost(_rows: int) -> float:
    return 0.0


class WaitingQueue:
    """Entries in order of arrival within two levels of priority, bounded in rows.

    Attributes:
        max_rows: Rows that may wait.
        waiting_rows: Rows that wait for collection now.
        earliest_deadline: No waiting entry has an earlier one; it is exact while nobody leaves.
        cancelled_rows: Rows dropped so far because their caller had gone.
        expired_rows: Rows dropped so far because their deadline had passed.
        wasted_rows: Rows among these two that had been collected before.
    """

    def __init__(self, max_rows: int) -> None:
        self.max_rows = max_rows
        self.waiting_rows = 0
        self.cancelled_rows = 0
        self.earliest_deadline = math.inf
        self.expired_rows = 0
        self.wasted_rows = 0
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

    def waiting_before(self, priority: Priority) -> Iterator[tuple[float, int]]:
        """Iterate over deadline and waiting rows of the entries ahead of a new one."""
        for entry in self._high if priority is Priority.HIGH else self.in_order():
            yield entry.deadline, entry.size - entry.collected

    def check_room(self, size: int) -> None:
        """Refuse rows that do not fit.

        Raises:
            QueueFullError: They do not.
        """
        if self.waiting_rows + size > self.max_rows:
            raise QueueFullError(
                f"{self.waiting_rows} rows wait and at most {self.max_rows} may: no room for "
                f"{size} more. Try again after a pause, or raise max_queue_size"
            )

    def push(self, entry: Entry) -> None:
        """Let an entry wait.

        Raises:
            QueueFullError: Its rows do not fit; nothing has changed.
        """
        self.check_room(entry.size)
        if not self.waiting_rows:
            self.earliest_deadline = math.inf
        self.earliest_deadline = min(self.earliest_deadline, entry.deadline)
        self.waiting_rows += entry.size
        if entry.priority is Priority.HIGH:
            self._high_rows += entry.size
            self._high[entry] = None
        else:
            self._normal[entry] = None

    def in_order(self) -> Iterator[Entry]:
        """Iterate over the entries with rows to collect, high priority first."""
        yield from self._high
        yield from self._normal

    def oldest_arrival(self) -> float:
        """Return when the entry that waits longest arrived; infinity if none waits."""
        return min((entry.arrived_at for entry in self._heads()), default=math.inf)

    def collect(
        self,
        max_rows: int,
        now: float,
        expected_seconds: Callable[[int], float] = _at_no_cost,
        others_ready: Sequence[float] = (),
    ) -> tuple[Batch, list[Entry]]:
        """Form the next batch, and drop what has expired on the way.

        An entry that does not fit is split: the batch takes its first rows and the next one goes on
        from there. A batch grows only as far as every deadline in it can still be kept.

        Args:
            max_rows: Most rows of the batch.
            now: The time, in seconds of the monotonic clock.
            expected_seconds: How long the engine is expected to take for a number of rows.
            others_ready: When others can start a batch, after this one.

        Returns:
            The batch, which is empty if nothing waits, and the entries that have expired.
        """
        batch = Batch()
        expired: list[Entry] = []
        size, ends_at = self._plan(max_rows, now, expected_seconds, others_ready)
        while batch.rows < size and self.waiting_rows:
            entry = self._head()
            if entry.deadline <= now or entry.deadline < ends_at:
                self.drop(entry, EntryState.EXPIRED, now)
                expired.append(entry)
            else:
                self._take(entry, min(size - batch.rows, entry.size - entry.collected), batch)
        return batch, expired

    def deliver(
        self, batch: Batch, outputs: Outputs, inference_seconds: float, now: float
    ) -> list[Entry]:
        """Record the answer to a batch.

        Args:
            batch: A batch that `collect` formed.
            outputs: Arrays of as many rows as the batch has.
            inference_seconds: How long the engine took.
            now: The time, in seconds of the monotonic clock.

        Returns:
            The entries that this settles: answered in full, or expired meanwhile.
        """
        batch.outputs = outputs
        batch.inference_seconds = inference_seconds
        settled: list[Entry] = []
        for entry, array in zip(batch.owners, batch.arrays, strict=True):
            if entry.state is not EntryState.WAITING:
                continue
            entry.unanswered -= len(array)
            if entry.deadline <= now:
                self.drop(entry, EntryState.EXPIRED, now)
            elif not entry.unanswered:
                entry.settle(EntryState.ANSWERED, now)
            else:
                continue
            settled.append(entry)
        batch.arrays.clear()
        return settled

    def fail(self, batch: Batch, cause: BaseException, now: float) -> list[Entry]:
        """Record that a batch failed; rows of its entries that still wait leave the queue.

        Returns:
            The entries that this settles.
        """
        settled: list[Entry] = []
        for entry in batch.owners:
            if entry.state is EntryState.WAITING:
                entry.cause = cause
                self._remove(entry)
                entry.settle(EntryState.FAILED, now)
                settled.append(entry)
        batch.arrays.clear()
        return settled

    def drop(self, entry: Entry, state: EntryState, now: float) -> bool:
        """Take an entry out, wherever it stands.

        Args:
            entry: An entry that was pushed.
            state: CANCELLED, EXPIRED or REFUSED.
            now: The time, in seconds of the monotonic clock.

        Returns:
            False if the entry had been settled before, and nothing has changed.
        """
        if entry.state is not EntryState.WAITING:
            return False
        self._remove(entry)
        if state is EntryState.CANCELLED:
            self.cancelled_rows += entry.size
        elif state is EntryState.EXPIRED:
            self.expired_rows += entry.size
        self.wasted_rows += entry.collected
        entry.settle(state, now)
        return True

    def _plan(
        self,
        max_rows: int,
        now: float,
        expected_seconds: Callable[[int], float],
        others_ready: Sequence[float],
    ) -> tuple[int, float]:
        rows = min(self.waiting_rows, max_rows)
        if now + expected_seconds(rows) <= self.earliest_deadline:
            return rows, -math.inf
        waiting = [
            (entry.deadline, entry.size - entry.collected)
            for entry in self.in_order()
            if entry.deadline > now
        ]
        return next_batch(waiting, now, max_rows, expected_seconds, others_ready)

    def _head(self) -> Entry:
        """Choose whose rows come next; at least one entry waits."""
        if not self._high:
            return next(iter(self._normal))
        if self._normal and self._high_lead >= HIGH_ROWS_PER_NORMAL_ROW:
            return next(iter(self._normal))
        return next(iter(self._high))

    def _heads(self) -> Iterator[Entry]:
        for level in (self._high, self._normal):
            if level:
                yield next(iter(level))

    def _take(self, entry: Entry, count: int, batch: Batch) -> None:
        if self._high and self._normal:
            if entry.priority is Priority.HIGH:
                self._high_lead += count
            else:
                self._high_lead -= count * HIGH_ROWS_PER_NORMAL_ROW
        else:
            self._high_lead = 0
        rows = entry.rows
        assert rows is not None, "an entry with rows to collect has them"  # noqa: S101
        if count != entry.size:
            rows = rows[entry.collected : entry.collected + count]
        batch.add(entry, rows)
        if entry.collected + count == entry.size:
            self._remove(entry)
            entry.rows = None
        else:
            self._count_out(entry, count)
        entry.collected += count

    def _remove(self, entry: Entry) -> None:
        """Take the rows that are not collected yet out of the queue."""
        rows = entry.size - entry.collected
        if rows:
            self._count_out(entry, rows)
            del (self._high if entry.priority is Priority.HIGH else self._normal)[entry]

    def _count_out(self, entry: Entry, rows: int) -> None:
        self.waiting_rows -= rows
        if entry.priority is Priority.HIGH:
            self._high_rows -= rows
