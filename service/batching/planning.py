"""How waiting rows are cut into batches, and whether an arriving request can still be answered.

Both follow from one plan, at the measured cost of batches. A batch grows only as far as every
deadline in it is kept, so an entry that is admitted does not make those before it late.

A request that cannot be answered in time is refused on arrival with DeadlineExceededError, the
error that waiting would have ended in, only sooner. QueueFullError would say something else: that
the queue has reached its bound and that the same request may do better after a pause. Clients retry
that, and would add load to a server that has too much, for a deadline that stays too short.
"""

import heapq
import math
from collections.abc import Callable, Sequence

from convd.service.batching.entry import Priority
from convd.service.batching.waiting_queue import WaitingQueue
from convd.service.errors import DeadlineExceededError

Waiting = tuple[float, int]  # deadline and number of rows of an entry
ExpectedSeconds = Callable[[int], float]  # of the engine, by number of rows

LEAST_EFFICIENCY = 0.9


class BatchPlan:
    """The batches of entries that are added in the order of collection.

    Args:
        ready_times: When each runner can start its first batch; at least one.
        max_rows: Maximum rows of a batch.
        expected_seconds: How long the engine is expected to take.

    Attributes:
        last_rows: Rows of the last batch so far.
        last_starts_at: When the last batch starts.
        on_time: Whether every deadline is kept.
    """

    def __init__(
        self, ready_times: Sequence[float], max_rows: int, expected_seconds: ExpectedSeconds
    ) -> None:
        self._ready = sorted(ready_times)
        self._first_rows = 0
        self.last_rows = 0
        self.last_starts_at = self._ready[0]
        self.on_time = True
        self._max_rows = max_rows
        self._expected_seconds = expected_seconds
        self._earliest = math.inf

    def add(self, deadline: float, size: int) -> None:
        """Add an entry to the last batch, and to new ones where it does not fit."""
        left = size
        while left:
            count = min(left, self._max_rows - self.last_rows)
            limit = min(self._earliest, deadline)
            ends_at = self.last_starts_at + self._expected_seconds(self.last_rows + count)
            if self.last_rows and (ends_at > limit or not count):
                seconds = self._expected_seconds(self.last_rows)
                heapq.heapreplace(self._ready, self.last_starts_at + seconds)
                self.last_starts_at = self._ready[0]
                self._first_rows = self._first_rows or self.last_rows
                self.last_rows, self._earliest = 0, math.inf
            else:
                self.on_time = self.on_time and ends_at <= limit
                self.last_rows += count
                self._earliest = limit
                left -= count

    @property
    def first_rows(self) -> int:
        """Rows of the first batch."""
        return self._first_rows or self.last_rows


def efficient_rows(max_rows: int, expected_seconds: ExpectedSeconds) -> int:
    """Return the batch size that gives nearly the rate of the largest, at a linear cost."""
    largest = expected_seconds(max_rows)
    by_row = (largest - expected_seconds(1)) / max(1, max_rows - 1)
    fixed = largest - by_row * max_rows
    if fixed <= 0:
        return 1
    rows = LEAST_EFFICIENCY * max_rows * fixed / (largest - LEAST_EFFICIENCY * by_row * max_rows)
    return max(1, math.ceil(rows))


def plan_next_batch(
    queue: WaitingQueue,
    now: float,
    max_rows: int,
    expected_seconds: ExpectedSeconds,
    others_ready: Sequence[float] = (),
) -> tuple[int, float]:
    """Choose the size of the next batch, and which entries are too late for it.

    Args:
        queue: The rows that wait.
        now: The time, in seconds of the monotonic clock.
        max_rows: Maximum rows of the batch.
        expected_seconds: How long the engine is expected to take.
        others_ready: When other runners can start a batch.

    Returns:
        As `next_batch`.
    """
    rows = min(queue.waiting_rows, max_rows)
    if now + expected_seconds(rows) <= queue.earliest_deadline:
        return rows, -math.inf
    waiting = [
        (entry.deadline, entry.size - entry.collected)
        for entry in queue.in_order()
        if entry.deadline > now
    ]
    if not waiting:
        # All have expired: whoever asks for a row finds that out.
        return 1, -math.inf
    return next_batch(waiting, now, max_rows, expected_seconds, others_ready)


def next_batch(
    waiting: Sequence[Waiting],
    now: float,
    max_rows: int,
    expected_seconds: ExpectedSeconds,
    others_ready: Sequence[float] = (),
) -> tuple[int, float]:
    """Choose the size of the next batch, and which entries are too late for it.

    Where some have to be late, it had better be those whose deadline is closest: serving them in
    small batches would make everyone behind them late as well, and keep the engine inefficient for
    as long as the load lasts. Where other runners will take the rows behind, the batch need not be
    larger than is efficient.

    Args:
        waiting: The entries, in the order of collection, with deadlines after `now`.
        now: The time, in seconds of the monotonic clock.
        max_rows: Maximum rows of the batch.
        expected_seconds: How long the engine is expected to take.
        others_ready: When other runners can start a batch.

    Returns:
        The number of rows, and the time before which no deadline of a row may be.
    """
    rows = 0
    earliest = math.inf
    for deadline, size in waiting:
        rows = min(max_rows, rows + size)
        earliest = min(earliest, deadline)
        if rows == max_rows:
            break
    if earliest == math.inf or now + expected_seconds(rows) <= earliest:
        return rows, -math.inf

    plan = BatchPlan([now, *others_ready], max_rows, expected_seconds)
    for deadline, size in waiting:
        plan.add(deadline, size)
    if plan.on_time:
        return plan.first_rows, -math.inf

    kept = 0
    for deadline, size in sorted(waiting, reverse=True):
        for _ in range(size):
            if kept == max_rows or now + expected_seconds(kept + 1) > deadline:
                break
            kept += 1
    if others_ready:
        kept = min(kept, max(plan.first_rows, efficient_rows(max_rows, expected_seconds)))
    if kept:
        return kept, now + expected_seconds(kept)
    # No deadline can be kept, unless the expectation is wrong: one row will tell.
    return 1, -math.inf


def check_deadline(
    queue: WaitingQueue,
    arriving: Waiting,
    priority: Priority,
    now: float,
    ready_times: Sequence[float],
    max_rows: int,
    expected_seconds: ExpectedSeconds,
) -> None:
    """Refuse an arriving entry that cannot be answered before its deadline.

    Args:
        queue: The rows that wait.
        arriving: Deadline and number of rows of the new entry.
        priority: Its level of priority.
        now: The time, in seconds of the monotonic clock.
        ready_times: When each runner can start its next batch, in order.
        max_rows: Maximum rows of a batch.
        expected_seconds: How long a batch is expected to take, with the wait for its cores.

    Raises:
        DeadlineExceededError: It would be answered after its deadline.
    """
    deadline, size = arriving
    rows = queue.rows_ahead(priority) + size
    batches = -(-rows // max_rows)
    ends_at = ready_times[0] + batches * expected_seconds(min(rows, max_rows))
    if ends_at <= min(deadline, queue.earliest_deadline):
        return
    plan = BatchPlan(ready_times, max_rows, expected_seconds)
    first_ends_at = plan.last_starts_at + expected_seconds(1)
    for entry in queue.ahead(priority):
        # An entry that is too late for the first batch will have left before it.
        if entry.deadline >= first_ends_at:
            plan.add(entry.deadline, entry.size - entry.collected)
    last_starts_at = plan.last_starts_at
    plan.add(deadline, size)
    rows = plan.last_rows
    if plan.last_starts_at > last_starts_at:
        # A new batch behind others has to have room to grow, or a long queue would be one of small
        # batches, each held small by the deadline that opened it.
        rows = max(rows, efficient_rows(max_rows, expected_seconds))
    seconds = plan.last_starts_at + expected_seconds(rows) - now
    if now + seconds > deadline:
        raise DeadlineExceededError(
            f"an answer would take about {seconds * 1e3:.0f} ms and the deadline is "
            f"{(deadline - now) * 1e3:.0f} ms away: refused on arrival. Allow more time"
        )
