"""Any interleaving of threads, deadlines, cancellations and failures, with a fake clock."""

import math
from itertools import count

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from service.batching.costs import BatchCosts
from service.batching.entry import EntryState, Priority
from service.batching.schedule import Schedule
from service.errors import DeadlineExceededError, QueueFullError
from tests.service.batching.simulation import Phase, Simulation

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
TestInterleavings.settings = settings(max_examples=1000, stateful_step_count=40, deadline=None)
