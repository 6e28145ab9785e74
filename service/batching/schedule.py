"""The schedule: who runs a batch, who waits, and who is woken when.

It is as pure as the queue: it has no thread, no lock and no clock, and it never blocks. All that it
does to the threads outside is to release the `wake` of an entry, and to ask for cores.
"""

import math
from itertools import islice

from convd.service.batching.admission import Admission
from convd.service.batching.engine import Engine, Outputs, Rows
from convd.service.batching.entry import Batch, Entry, EntryState, Priority
from convd.service.batching.gathering import Gathering
from convd.service.batching.observer import EntryTrace
from convd.service.batching.slots import Slot, Slots
from convd.service.batching.waiting_queue import WaitingQueue
from convd.service.errors import UnavailableError


class Schedule:
    """Gives slots to entries.

    While rows wait, every slot that may be used is busy, or one is in line for cores, or each
    waiting entry has a slot: so someone always comes to collect them. An entry's `wake` is released
    once for each slot that it is given, and once when it is settled while it has none.

    Args:
        engine: What runs the batches.
        instances: What runs them while requests are many, a core each; None for the same engine.
            Rows do not gather then.
        max_queue_size: Most rows that may wait.
        max_queue_delay_seconds: How long rows may wait for others to join them.

    Attributes:
        queue: The rows that wait.
        slots: Who runs, and on what.
        gathering: Who lets rows join those that wait.
        accepting: Whether arrivals are let in.
        company: Whether the last batch had rows of several requests, or left some waiting. Then
            others are likely to be on their way, and a batch does well to let them come.
    """

    def __init__(
        self,
        engine: Engine,
        instances: Engine | None = None,
        *,
        max_queue_size: int,
        max_queue_delay_seconds: float = 0.0,
    ) -> None:
        if instances is not None and max_queue_delay_seconds:
            raise ValueError("instances and max_queue_delay_seconds exclude each other")
        self.queue = WaitingQueue(max_queue_size)
        self.slots = Slots(engine, instances)
        self.gathering = Gathering(self.queue, engine.max_batch_size, max_queue_delay_seconds)
        self.accepting = True
        self.company = False
        self._admission = Admission(self.queue, self.slots)

    @property
    def quiet(self) -> bool:
        """Whether nothing waits or runs, and nothing will."""
        return not (self.accepting or self.slots.busy or self.queue.waiting_rows)

    def check(self, size: int, now: float, deadline: float, priority: Priority) -> Engine:
        """Refuse a request whose rows would be refused if they arrived now.

        Returns:
            What a batch that begins with the arrival runs on.

        Raises:
            UnavailableError: Draining or closed.
            QueueFullError: The rows do not fit.
            DeadlineExceededError: There is no time left to answer.
        """
        if not self.accepting:
            raise UnavailableError("the model is about to be unloaded: try again")
        engine = self.slots.engine_for(self.queue.waiting_requests + 1)
        free = self.slots.free_for(engine)
        # Somebody has to be there when the cores come, or a wrong estimate would stand for ever.
        nobody_there = self.slots.in_line and not self.queue.waiting_rows
        if not free and not nobody_there and deadline != math.inf:
            self._admission.check(size, now, deadline, priority, engine)
        # A slot that is free goes to those who wait already.
        if not free or self.queue.waiting_rows:
            self.queue.check_room(size)
        return engine

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
        slots = self.slots
        slots.engine = self.check(size, now, deadline, priority)
        if (
            slots.available > 0
            and not self.queue.waiting_rows
            and not self.gathering.wanted
            and size <= slots.engine.max_batch_size
        ):
            slot = slots.take()
            if slots.ask(slot, now):
                if not self.company or size > self.queue.max_rows:
                    slots.begin(slot, size, now)
                    return slot
                entry = Entry(rows, now, deadline, priority, trace)
                self.queue.push(entry)
                self._give(slot)
                return entry
        entry = Entry(rows, now, deadline, priority, trace)
        self.queue.push(entry)
        if self.gathering.goes_on:
            self.gathering.note_arrival()
        else:
            self._call_slots(now)
        return entry

    def start(self, entry: Entry, slot: Slot, now: float) -> Batch | None:
        """Form the batch that an entry's thread runs in its slot.

        Returns:
            The batch; None if the slot has been handed over, because there is nothing to run or the
            entry ended while its thread woke up, or if the slot has to wait for its cores.
        """
        if entry.deadline <= now:
            self.queue.drop(entry, EntryState.EXPIRED, now)
        if entry.state is EntryState.WAITING:
            if not slot.has_cores and not self.slots.ask(slot, now):
                entry.slot = None
                return None
            batch, expired = self.queue.collect(
                self.slots.most_rows(slot, self.queue.waiting_rows),
                now,
                slot.engine.costs.expected_seconds,
                self.slots.others_ready(slot, now),
            )
            for late in expired:
                self._wake(late)
            if batch.rows:
                self.slots.begin(slot, batch.rows, now)
                return batch
        entry.slot = None
        # A turn that was not used is not lost.
        self._give(slot)
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
            slot.engine.costs.observe(batch.rows, seconds)
            settled = self.queue.deliver(batch, outcome, seconds, now)
        entry.slot = None
        self.company = len(batch.owners) > 1 or self.queue.waiting_rows > 0
        # The entries keep the batch, for its outputs: a cycle would be left to the collector.
        batch.owners.clear()
        stays = self._hand_over(slot, now, entry)
        for other in settled:
            if other is not entry:
                self._wake(other)
        return stays

    def finish_alone(self, slot: Slot, outcome: Outputs | BaseException, now: float) -> None:
        """Hand over the slot of a request that ran without waiting."""
        self.company = self.queue.waiting_rows > 0
        if not isinstance(outcome, BaseException):
            slot.engine.costs.observe(slot.rows, now - slot.started_at)
        self._hand_over(slot, now)

    def grant(self, now: float) -> None:
        """Let the slot run whose cores have come."""
        self._give(self.slots.grant(now))

    def drop(self, entry: Entry, state: EntryState, now: float) -> None:
        """Take an entry out and wake its thread; does nothing once it is settled."""
        if self.queue.drop(entry, state, now):
            self._wake(entry)

    def abandon(self, entry: Entry, now: float) -> None:
        """Take an entry out whose thread will not come back, and hand its slot over."""
        self.queue.drop(entry, EntryState.CANCELLED, now)
        if entry.slot is not None:
            slot, entry.slot = entry.slot, None
            self._give(slot)

    def _hand_over(self, slot: Slot, now: float, leader: Entry | None = None) -> bool:
        """Pass a slot on after a batch; return whether to `leader`.

        Others who wait for cores have their turn first: the slot gets in line behind them.
        """
        slots = self.slots
        slots.end(slot)
        heir = self._heir()
        if self.gathering.wanted:
            slots.surrender(slot)
        # While nobody waits, the next arrival tells how many there are.
        elif heir is not None:
            slots.engine = slots.engine_for(self.queue.waiting_requests)
            if slots.available < 0:
                # The instances that still run will see to those who wait.
                heir = None
            elif not slots.renew(slot, now):
                return False
        return self._give_to(heir, slot, leader)

    def _call_slots(self, now: float) -> None:
        """Take slots for those who wait and have none, unless enough are on their way."""
        slots = self.slots
        while slots.available > 0:
            heirs = (entry for entry in self.queue.in_order() if entry.slot is None)
            # Those in line will see to the first of them.
            if next(islice(heirs, len(slots.in_line), None), None) is None:
                return
            slot = slots.take()
            # Nobody computes while rows gather: their thread asks for the cores when it starts.
            if self.gathering.wanted or slots.ask(slot, now):
                self._give(slot)

    def _give(self, slot: Slot) -> None:
        """Give a slot to the first who needs one."""
        self._give_to(self._heir(), slot)

    def _give_to(self, heir: Entry | None, slot: Slot, leader: Entry | None = None) -> bool:
        """Give a slot to its heir; return whether that is `leader`, who need not be woken."""
        if heir is None:
            self.slots.free(slot)
            return False
        heir.slot = slot
        if heir is leader:
            return True
        heir.wake.release()
        return False

    def _heir(self) -> Entry | None:
        """Return the first waiting entry without a slot."""
        for entry in self.queue.in_order():
            if entry.slot is None:
                return entry
        return None

    def _wake(self, entry: Entry) -> None:
        """Wake the thread of an entry that has just been settled, unless it is running a batch."""
        if entry.slot is None:
            entry.wake.release()
        elif self.gathering.is_by(entry):
            self.gathering.stop()
