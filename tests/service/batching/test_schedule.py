"""Any interleaving of threads, deadlines, cancellations and failures, with a fake clock."""

import math
from itertools import count

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from service.batching.costs import BatchCosts
from service.batching.entry import Entry, EntryState, Priority, Slot
from service.batching.schedule import Schedule
from service.errors import DeadlineExceededError, QueueFullError
from tests.service.batching.simulation import Phase, Simulation, engine, rows_of

MAX_BATCH_SIZE = 4
MAX_QUEUE_SIZE = 12


class EngineFailedError(Exception):
    pass


class Interleavings(RuleBasedStateMachine):
    """Every thread takes its steps in any order; nothing may be lost, doubled or stuck."""

    @initialize(slots=st.integers(1, 3))
    def start(self, slots: int) -> None:
        self.slots = slots
        self.schedule = Schedule(
            max_batch_size=MAX_BATCH_SIZE,
            max_queue_size=MAX_QUEUE_SIZE,
            max_concurrent_executions=slots,
            max_queue_delay_seconds=0.0,
            costs=BatchCosts(),
        )
        self.simulation = Simulation(self.schedule)
        self.ids = count()

    @rule(
        size=st.integers(1, MAX_QUEUE_SIZE),
        timeout=st.one_of(st.just(math.inf), st.integers(1, 20)),
        priority=st.sampled_from(Priority),
    )
    def arrive(self, size: int, timeout: float, priority: Priority) -> None:
        before = self.schedule.queue.waiting_rows
        ids = [next(self.ids) for _ in range(size)]
        try:
            self.simulation.arrive(ids, self.simulation.now + timeout, priority)
        except QueueFullError:
            assert before + size > MAX_QUEUE_SIZE
            assert self.schedule.queue.waiting_rows == before
        except DeadlineExceededError:
            assert timeout < math.inf
            assert self.simulation.running() or self.can_step()
            assert self.schedule.queue.waiting_rows == before

    def can_step(self) -> list[int]:
        return [i for i, r in enumerate(self.simulation.requests) if self.simulation.can_step(r)]

    @precondition(lambda self: self.can_step())
    @rule(data=st.data())
    def step(self, data: st.DataObject) -> None:
        index = data.draw(st.sampled_from(self.can_step()))
        self.simulation.step(self.simulation.requests[index])

    @precondition(lambda self: self.simulation.running())
    @rule(data=st.data(), fails=st.sampled_from([False, False, False, True]))
    def end_batch(self, data: st.DataObject, fails: bool) -> None:
        running = self.simulation.running()
        request = running[data.draw(st.integers(0, len(running) - 1))]
        self.simulation.finish(request, EngineFailedError() if fails else None)

    @precondition(lambda self: self.waiting())
    @rule(data=st.data(), state=st.sampled_from([EntryState.CANCELLED, EntryState.REFUSED]))
    def drop(self, data: st.DataObject, state: EntryState) -> None:
        waiting = self.waiting()
        entry = self.simulation.requests[data.draw(st.sampled_from(waiting))].entry
        assert entry is not None
        self.schedule.drop(entry, state, self.simulation.now)

    def waiting(self) -> list[int]:
        return [i for i, r in enumerate(self.simulation.requests) if r.entry is not None]

    @rule(seconds=st.integers(1, 5))
    def pass_time(self, seconds: int) -> None:
        self.simulation.now += seconds

    @invariant()
    def someone_comes_for_every_row(self) -> None:
        queue = self.schedule.queue
        entries = list(queue.in_order())
        assert len(self.schedule._idle) + len(self.schedule._busy) == self.slots
        assert sum(e.size - e.collected for e in entries) == queue.waiting_rows <= MAX_QUEUE_SIZE
        assert all(e.state is EntryState.WAITING for e in entries)
        assert not self.schedule._idle or all(e.slot is not None for e in entries)
        at_work = (Phase.RUNNING, Phase.RUNNING_ALONE, Phase.WOKEN)
        given = [
            r
            for r in self.simulation.requests
            if r.phase in at_work or (r.entry is not None and r.entry.slot is not None)
        ]
        assert len(given) == len(self.schedule._busy)

    def teardown(self) -> None:
        """Whatever happened, once the engine goes on everybody gets an answer."""
        if not hasattr(self, "simulation"):
            return
        self.simulation.settle_threads()
        while running := self.simulation.running():
            self.simulation.finish(running[0])
            self.simulation.settle_threads()
        assert all(r.phase is Phase.DONE for r in self.simulation.requests)
        assert not self.schedule.queue.waiting_rows
        assert not self.schedule._busy
        self.schedule.accepting = False
        assert self.schedule.quiet


TestInterleavings = Interleavings.TestCase
TestInterleavings.settings = settings(max_examples=600, stateful_step_count=50, deadline=None)


def test_an_entry_whose_thread_never_comes_back_passes_its_slot_on() -> None:
    schedule = Schedule(
        max_batch_size=4,
        max_queue_size=8,
        max_concurrent_executions=1,
        max_queue_delay_seconds=0.0,
        costs=BatchCosts(),
    )
    slot = schedule.arrive(rows_of([0]), 0.0, math.inf, Priority.NORMAL)
    assert isinstance(slot, Slot)
    entries = [schedule.arrive(rows_of([i]), 0.0, math.inf, Priority.NORMAL) for i in (1, 2)]
    first, second = (entry for entry in entries if isinstance(entry, Entry))
    schedule.finish_alone(slot, engine(rows_of([0])), 1.0)
    assert not first.wake.locked()
    schedule.abandon(first, 1.0)
    assert first.slot is None
    assert second.slot is slot
    assert not second.wake.locked()


def test_a_cost_known_from_warm_up_refuses_from_the_first_request_on() -> None:
    costs = BatchCosts()
    for rows in (1, 2, 4):
        costs.observe(rows, 0.1 * rows)
    schedule = Schedule(
        max_batch_size=4,
        max_queue_size=8,
        max_concurrent_executions=1,
        max_queue_delay_seconds=0.0,
        costs=costs,
    )
    # Whoever finds the engine idle is let in, however short the time.
    assert isinstance(schedule.arrive(rows_of([0]), 0.0, 0.01, Priority.NORMAL), Slot)
    with pytest.raises(DeadlineExceededError, match="refused on arrival"):
        schedule.arrive(rows_of([1]), 0.0, 0.15, Priority.NORMAL)
    assert isinstance(schedule.arrive(rows_of([2]), 0.0, 0.5, Priority.NORMAL), Entry)
