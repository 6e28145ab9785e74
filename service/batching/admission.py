"""Admission control: is there still time to answer a request before its deadline?

An arriving entry that has to wait is planned into the batches that the queue will form, at their
measured cost, and is refused if its own would end after its deadline. Since no planned batch grows
past the deadline of a row in it, an entry that is admitted does not make those before it late.

The refusal is a DeadlineExceededError, the same error that waiting would have ended in, only
sooner. QueueFullError would say something else: that the queue has reached its bound and that the
same request may do better after a pause. Clients retry that, and would add load to a server that
has too much, for a deadline that stays too short.

Estimates never shut an idle engine. An entry that need not wait is not asked; costs that have not
been measured are none; and a batch is never expected to cost more than its rows one by one. So one
lone request measures the engine anew, and the estimates of all sizes follow it down.
"""

from collections.abc import Iterable

from service.batching.planning import BatchPlan, ExpectedSeconds, Waiting, efficient_rows
from service.errors import DeadlineExceededError


def check_deadline(
    now: float,
    arriving: Waiting,
    waiting: Iterable[Waiting],
    plan: BatchPlan,
    max_rows: int,
    expected_seconds: ExpectedSeconds,
) -> None:
    """Refuse an entry that cannot be answered before its deadline.

    Args:
        now: The time, in seconds of the monotonic clock.
        arriving: Deadline and number of rows of the new entry.
        waiting: The entries ahead of it, in the order of collection.
        plan: An empty plan that starts when the engine is free.
        max_rows: Most rows of a batch.
        expected_seconds: How long the engine is expected to take.

    Raises:
        DeadlineExceededError: It would be answered after its deadline.
    """
    for deadline, size in waiting:
        plan.add(deadline, size)
    last_starts_at = plan.last_starts_at
    deadline, size = arriving
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
