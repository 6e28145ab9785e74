"""The schedule: who runs a batch, who waits, and who is woken when.

It is as pure as the queue: it has no thread, no lock and no clock, and it never blocks. All that it
does to the threads outside is to release the `wake` of an entry.
"""

import math

from service.batching.admission import check_deadline
from service.batching.costs import BatchCosts
from service.batching.entry import Batch, Entry, EntryState, Outputs, Priority, Rows, Slot
from service.batching.observer import EntryTrace
from service.batching.planning import BatchPlan
from service.batching.waiting_queue import WaitingQueue
from service.errors import UnavailableError


class Schedule:
    """Gives slots to entries.

    While rows wait, every slot is busy, or each waiting entry has a slot: so someone always comes
    to collect them. An entry's `wake` is released once for each slot that it is given, and once
    when it is settled while it has none.

    Args:
        max_batch_size: Most rows of one batch.
        max_queue_size: Most rows that may wait.
        max_concurrent_executions: Number of slots.
        max_queue_delay_seconds: How long rows may wait for others to join them.
        costs: Measured cost by batch size.
    """

    def __init__(
        self,
        *,
        max_batch_size: int,
        max_queue_size: int,
        max_concurrent_executions: int,
        max_queue_delay_seconds: float,
        costs: BatchCosts,
    ) -> None:
        self.queue = WaitingQueue(max_queue_size)
        self.accepting = True
        self._max_batch_size = max_batch_size
        self._max_queue_delay_seconds = max_queue_delay_seconds
        self._costs = costs
        self._idle = [Slot() for _ in range(max_concurrent_executions)]
        self._busy: list[Slot] = []
        self._gathering: Entry | None = None

    @property
    def quiet(self) -> bool:
        """Whether nothing waits or runs, and nothing will."""
        return not (self.accepting or self._busy or self.queue.waiting_rows)

    def arrive(
        self,
        rows: Rows,
        now: float,
        deadline: float,
        priority: Priority,
        trace: EntryTrace | None = None,
    ) -> Slot | Entry:
        """Give an arriving request the engine, if it is idle, or a place in the queue.

        Returns:
            A slot to run the rows in, or an entry to wait for.

        Raises:
            UnavailableError: Draining or closed.
            QueueFullError: The rows do not fit.
            DeadlineExceededError: There is no time left to answer.
        """
        size = len(rows)
        if not self.accepting:
            raise UnavailableError("the model is about to be unloaded: try again")
        if self._idle:
            if (
                not self.queue.waiting_rows
                and not self._max_queue_delay_seconds
                and size <= self._max_batch_size
            ):
                slot = self._take_slot()
                slot.started_at = now
                slot.rows = size
                return slot
        elif deadline != math.inf:
            self._check_deadline(size, now, deadline, priority)
        entry = Entry(rows, now, deadline, priority, trace)
        self.queue.push(entry)
        if self._gathering is not None:
            if self.queue.waiting_rows >= self._max_batch_size:
                self.stop_gathering()
        elif self._idle:
            entry.slot = self._take_slot()
            entry.wake.release()
        return entry

    def start(self, entry: Entry, slot: Slot, now: float) -> Batch | None:
        """Form the batch that an entry's thread runs in its slot.

        Returns:
            The batch; None if the slot has been handed over, because there is nothing to run or the
            entry ended while its thread woke up.
        """
        if entry.deadline <= now:
            self.queue.drop(entry, EntryState.EXPIRED, now)
        if entry.state is EntryState.WAITING:
            batch, expired = self.queue.collect(
                self._max_batch_size, now, self._costs.expected_seconds
            )
            for late in expired:
                self._wake(late)
            if batch.rows:
                slot.started_at = now
                slot.rows = batch.rows
                return batch
        entry.slot = None
        self._hand_over(slot)
        return None

    def finish(
        self,
        entry: Entry,
        slot: Slot,
        batch: Batch,
        outcome: Outputs | BaseException,
        now: float,
    ) -> bool:
        """Hand the slot over, then give everyone in the batch their answer or its failure.

        Returns:
            Whether the slot stays with the entry's thread, for the next batch.
        """
        if isinstance(outcome, BaseException):
            settled = self.queue.fail(batch, outcome, now)
        else:
            seconds = now - slot.started_at
            self._costs.observe(batch.rows, seconds)
            settled = self.queue.deliver(batch, outcome, seconds, now)
        entry.slot = None
        stays = self._hand_over(slot, entry)
        for other in settled:
            if other is not entry:
                self._wake(other)
        return stays

    def finish_alone(self, slot: Slot, outcome: Outputs | BaseException, now: float) -> None:
        """Hand over the slot of a request that ran without waiting."""
        if not isinstance(outcome, BaseException):
            self._costs.observe(slot.rows, now - slot.started_at)
        self._hand_over(slot)

    def drop(self, entry: Entry, state: EntryState, now: float) -> None:
        """Take an entry out and wake its thread; does nothing once it is settled."""
        if self.queue.drop(entry, state, now):
            self._wake(entry)

    def abandon(self, entry: Entry, now: float) -> None:
        """Take an entry out whose thread will not come back, and hand its slot over."""
        self.queue.drop(entry, EntryState.CANCELLED, now)
        if entry.slot is not None:
            slot, entry.slot = entry.slot, None
            self._hand_over(slot)

    def start_gathering(self, entry: Entry, now: float) -> float:
        """Return for how many seconds an entry's thread shall let other rows join those that wait.

        If that is more than 0, the thread sleeps on `wake`, which is released when there is no more
        reason to, and then calls `end_gathering`.
        """
        ends_at = self.queue.oldest_arrival() + self._max_queue_delay_seconds
        seconds = min(ends_at, entry.deadline) - now
        full = self.queue.waiting_rows >= self._max_batch_size
        if seconds <= 0 or full or self._gathering is not None or not self.accepting:
            return 0.0
        self._gathering = entry
        return seconds

    def end_gathering(self, entry: Entry, *, told: bool) -> None:
        """Note that an entry's thread has stopped gathering, told to or by itself."""
        if self._gathering is entry:
            self._gathering = None
        elif not told:
            # Told to stop just as the time was up.
            entry.wake.acquire()

    def stop_gathering(self) -> None:
        """Wake the thread that lets others join, if there is one."""
        if self._gathering is not None:
            self._gathering.wake.release()
            self._gathering = None

    def _check_deadline(self, size: int, now: float, deadline: float, priority: Priority) -> None:
        expected_seconds = self._costs.expected_seconds
        ready_at = max(
            now, min([slot.started_at + expected_seconds(slot.rows) for slot in self._busy])
        )
        rows = self.queue.rows_ahead(priority) + size
        batches = -(-rows // self._max_batch_size)
        ends_at = ready_at + batches * expected_seconds(min(rows, self._max_batch_size))
        if ends_at <= min(deadline, self.queue.earliest_deadline):
            return
        check_deadline(
            now,
            (deadline, size),
            self.queue.waiting_before(priority),
            BatchPlan(ready_at, self._max_batch_size, len(self._busy), expected_seconds),
            self._max_batch_size,
            expected_seconds,
        )

    def _take_slot(self) -> Slot:
        slot = self._idle.pop()
        self._busy.append(slot)
        return slot

    def _hand_over(self, slot: Slot, leader: Entry | None = None) -> bool:
        """Give a slot to the first waiting entry without one; return whether that is `leader`."""
        slot.started_at = -math.inf
        for heir in self.queue.in_order():
            if heir.slot is None:
                heir.slot = slot
                if heir is leader:
                    return True
                heir.wake.release()
                return False
        self._busy.remove(slot)
        self._idle.append(slot)
        return False

    def _wake(self, entry: Entry) -> None:
        """Wake the thread of an entry that has just been settled, unless it is running a batch."""
        if entry.slot is None:
            entry.wake.release()
        elif entry is self._gathering:
            self.stop_gathering()
