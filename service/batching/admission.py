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
lone request measures the engine anew, and the estimates of all sizes follow it down. The same holds
where the engine has to wait for cores: whoever would be alone to wait for them is let in, so that
somebody is there when they come.
"""

from collections.abc import Iterable

from convd.service.batching.engine import Engine
from convd.service.batching.entry import Priority
from convd.service.batching.planning import BatchPlan, ExpectedSeconds, Waiting, efficient_rows
from convd.service.batching.slots import Slots
from convd.service.batching.waiting_queue import WaitingQueue
from convd.service.errors import DeadlineExceededError


class Admission:
    """Says whether an entry that would have to wait can be answered in time.

    A planned batch begins when its slot asks for cores, and takes as long as slots wait for theirs
    on average, and then what it costs.

    Args:
        queue: Those who wait.
        slots: When they can run; none is free during a check.
    """

    def __init__(self, queue: WaitingQueue, slots: Slots) -> None:
        self._queue = queue
        self._slots = slots

    def check(
        self, size: int, now: float, deadline: float, priority: Priority, engine: Engine
    ) -> None:
        """Refuse an arriving entry that cannot be answered before its deadline.

        Args:
            size: Its rows.
            now: The time, in seconds of the monotonic clock.
            deadline: Its deadline, on the same clock.
            priority: Its level of priority.
            engine: What its batch will run on.

        Raises:
            DeadlineExceededError: It would be answered after its deadline.
        """
        ready_times = self._slots.ready_times(now, engine)

        def turn_seconds(rows: int) -> float:
            return self._slots.wait_seconds + engine.costs.expected_seconds(rows)

        rows = self._queue.rows_ahead(priority) + size
        batches = -(-rows // engine.max_batch_size)
        ends_at = ready_times[0] + batches * turn_seconds(min(rows, engine.max_batch_size))
        if ends_at <= min(deadline, self._queue.earliest_deadline):
            return
        check_deadline(
            now,
            (deadline, size),
            self._queue.waiting_before(priority),
            BatchPlan(ready_times, engine.max_batch_size, turn_seconds),
            engine.max_batch_size,
            turn_seconds,
        )


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
    first_ends_at = plan.last_starts_at + expected_seconds(1)
    for deadline, size in waiting:
        # Whoever is too late for the first batch will have left before it.
        if deadline >= first_ends_at:
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
