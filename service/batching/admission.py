"""Admission control: is there still time to answer a request before its deadline?

The cost of a batch is measured while serving: the exponentially weighted mean and mean deviation of
the engine's time, kept for each power of two of rows, as TCP keeps its round-trip time (Jacobson,
"Congestion Avoidance and Control", SIGCOMM 1988). From it and from the rows ahead follows when a
new entry would be answered.

What cannot be answered in time is refused on arrival with DeadlineExceededError, the same error
that waiting would have ended in, only sooner. QueueFullError would say something else: that the
queue has reached its bound and that the same request may do better after a pause. Clients retry
that, and would add load to a server that has too much, for a deadline that stays too short.

Estimates never shut an idle engine. The batcher asks only when an entry has to wait; a batch size
that has not been measured costs nothing; and a batch is never expected to cost more than the
smaller batches that it could be cut into. So one lone request measures the engine anew, and the
estimates of all sizes follow it down.
"""

import math

from service.errors import DeadlineExceededError

MEAN_WEIGHT = 1 / 8
DEVIATION_WEIGHT = 1 / 4
DEVIATIONS_OF_MARGIN = 2.0


class BatchCosts:
    """Measured cost of the engine by batch size.

    It is not safe for threads; the batcher holds its lock around every call.

    Args:
        max_batch_size: Largest number of rows of a batch.
    """

    def __init__(self, max_batch_size: int) -> None:
        buckets = (max_batch_size - 1).bit_length() + 1
        self._mean_seconds: list[float | None] = [None] * buckets
        self._deviation_seconds = [0.0] * buckets
        self._expected_seconds = [0.0] * buckets

    def observe(self, rows: int, seconds: float) -> None:
        """Learn from a batch that took `seconds` for `rows` rows."""
        bucket = (rows - 1).bit_length()
        mean = self._mean_seconds[bucket]
        if mean is None:
            self._mean_seconds[bucket] = seconds
        else:
            error = seconds - mean
            self._mean_seconds[bucket] = mean + error * MEAN_WEIGHT
            deviation = self._deviation_seconds[bucket]
            self._deviation_seconds[bucket] += (abs(error) - deviation) * DEVIATION_WEIGHT
        self._update_from(bucket)

    def expected_seconds(self, rows: int) -> float:
        """Return the expected cost of a batch with a margin; 0 while nothing is known."""
        return self._expected_seconds[(rows - 1).bit_length()]

    def _update_from(self, bucket: int) -> None:
        smaller = self._expected_seconds[bucket - 1] if bucket else 0.0
        for index in range(bucket, len(self._expected_seconds)):
            bound = 2 * smaller if smaller else math.inf
            mean = self._mean_seconds[index]
            if mean is not None:
                own = mean + DEVIATIONS_OF_MARGIN * self._deviation_seconds[index]
                bound = min(bound, own)
            smaller = self._expected_seconds[index] = 0.0 if bound == math.inf else bound


def check_deadline(
    *,
    now: float,
    deadline: float,
    ready_at: float,
    rows: int,
    max_batch_size: int,
    concurrent_executions: int,
    costs: BatchCosts,
) -> None:
    """Refuse an entry that cannot be answered before its deadline.

    Args:
        now: The time, in seconds of the monotonic clock.
        deadline: The entry's deadline.
        ready_at: When an execution that runs now is expected to end.
        rows: Rows that wait ahead of the entry, and its own.
        max_batch_size: Largest number of rows of a batch.
        concurrent_executions: Batches that may run at the same time.
        costs: Measured cost by batch size.

    Raises:
        DeadlineExceededError: The answer is expected after the deadline.
    """
    full_batches, rest = divmod(rows, max_batch_size)
    if full_batches and not rest:
        full_batches, rest = full_batches - 1, max_batch_size
    rounds = full_batches // concurrent_executions
    wait_seconds = max(0.0, ready_at - now) + rounds * costs.expected_seconds(max_batch_size)
    answered_at = now + wait_seconds + costs.expected_seconds(rest)
    if answered_at > deadline:
        raise DeadlineExceededError(
            f"an answer would take about {(answered_at - now) * 1e3:.0f} ms and the deadline is "
            f"{(deadline - now) * 1e3:.0f} ms away: refused on arrival. Allow more time"
        )
