"""Any interleaving of threads, deadlines, cancellations and failures, with a fake clock."""

import math
from functools import partial
from itertools import count

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from convd.runtime.cores import CoreBudget, CoreShare
from convd.service.batching.costs import BatchCosts
from convd.service.batching.engine import Engine
from convd.service.batching.entry import Entry, EntryState, Priority
from convd.service.batching.schedule import Schedule
from convd.service.batching.slots import Slot
from convd.service.errors import DeadlineExceededError, QueueFullError
from tests.service.batching.simulation import Phase, Request, Simulation, engine, rows_of

MAX_BATCH_SIZE = 4
MAX_QUEUE_SIZE = 12


class EngineFailedError(Exception):
    pass


class Interleavings(RuleBasedStateMachine):
    """Every thread takes its steps in any order; nothing may be lost, doubled or stuck.

    Two engines share a few cores with others, and cores are released and granted late.
    """

    @initialize(
        cores=st.integers(1, 3),
        slots=st.tuples(st.integers(1, 3), st.integers(1, 3)),
        threads=st.tuples(st.integers(0, 3), st.integers(1, 4)),
        gathers=st.booleans(),
        instances=st.booleans(),
    )
    def start(
        self,
        cores: int,
        slots: tuple[int, int],
        threads: tuple[int, int],
        gathers: bool,
        instances: bool,
    ) -> None:
        self.budget = CoreBudget(cores)
        self.others: list[int] = []
        self.others_granted: list[int] = []
        self.slots = slots
        # Whoever gathers has no cores yet. The simulated threads do so for no time.
        first = Schedule(
            self.engine(slots[0], threads[0]),
            max_queue_size=MAX_QUEUE_SIZE,
            max_queue_delay_seconds=float(gathers),
        )
        second = Schedule(
            self.engine(1, cores) if instances else self.engine(slots[1], threads[1]),
            self.engine(slots[1], 1) if instances else None,
            max_queue_size=MAX_QUEUE_SIZE,
        )
        self.simulations = [Simulation(first), Simulation(second)]
        self.ids = count()

    def engine(self, executions: int, threads: int) -> Engine:
        return Engine(
            engine,
            max_batch_size=MAX_BATCH_SIZE,
            max_concurrent_executions=executions,
            # No thread stands for an engine that takes no cores.
            cores=CoreShare(self.budget, threads) if threads else None,
        )

    @rule(
        index=st.integers(0, 1),
        size=st.integers(1, MAX_QUEUE_SIZE),
        timeout=st.one_of(st.just(math.inf), st.integers(1, 20)),
        priority=st.sampled_from(Priority),
    )
    def arrive(self, index: int, size: int, timeout: float, priority: Priority) -> None:
        simulation = self.simulations[index]
        schedule = simulation.schedule
        before = schedule.queue.waiting_rows
        engine_before = schedule.slots.engine
        need_not_wait = schedule.slots.free_for(
            schedule.slots.engine_for(schedule.queue.waiting_requests + 1)
        )
        was_in_line = bool(schedule.slots.in_line)
        deadline = simulation.now + timeout
        try:
            schedule.check(size, simulation.now, deadline, priority)
            refused: type[Exception] | None = None
        except (QueueFullError, DeadlineExceededError) as error:
            refused = type(error)
        ids = [next(self.ids) for _ in range(size)]
        try:
            simulation.arrive(ids, deadline, priority)
            assert refused is None
        except (QueueFullError, DeadlineExceededError) as error:
            assert type(error) is refused
            if isinstance(error, QueueFullError):
                assert before + size > MAX_QUEUE_SIZE
            else:
                assert timeout < math.inf
                assert not need_not_wait
                assert before or not was_in_line
            # Or others would wait for slots that nobody takes.
            assert schedule.queue.waiting_rows == before
            assert schedule.slots.engine is engine_before

    def can_step(self) -> list[tuple[Simulation, Request]]:
        return [(s, r) for s in self.simulations for r in s.requests if s.can_step(r)]

    @precondition(lambda self: self.can_step())
    @rule(data=st.data())
    def step(self, data: st.DataObject) -> None:
        steps = self.can_step()
        simulation, request = steps[data.draw(st.integers(0, len(steps) - 1))]
        simulation.step(request)

    def running(self) -> list[tuple[Simulation, Request]]:
        return [(s, r) for s in self.simulations for r in s.running()]

    @precondition(lambda self: self.running())
    @rule(data=st.data(), fails=st.sampled_from([False, False, False, True]))
    def end_batch(self, data: st.DataObject, fails: bool) -> None:
        running = self.running()
        simulation, request = running[data.draw(st.integers(0, len(running) - 1))]
        simulation.finish(request, EngineFailedError() if fails else None)

    def waiting(self) -> list[tuple[Simulation, Entry]]:
        return [(s, r.entry) for s in self.simulations for r in s.requests if r.entry is not None]

    @precondition(lambda self: self.waiting())
    @rule(data=st.data(), state=st.sampled_from([EntryState.CANCELLED, EntryState.REFUSED]))
    def drop(self, data: st.DataObject, state: EntryState) -> None:
        waiting = self.waiting()
        simulation, entry = waiting[data.draw(st.integers(0, len(waiting) - 1))]
        simulation.schedule.drop(entry, state, simulation.now)

    @precondition(lambda self: any(simulation.surplus for simulation in self.simulations))
    @rule(last=st.booleans())
    def release_surplus(self, last: bool) -> None:
        simulations = [simulation for simulation in self.simulations if simulation.surplus]
        simulations[-last].release_surplus()

    @precondition(lambda self: any(simulation.grants for simulation in self.simulations))
    @rule(last=st.booleans())
    def take_grant(self, last: bool) -> None:
        simulations = [simulation for simulation in self.simulations if simulation.grants]
        simulations[-last].take_grant()

    @rule(threads=st.integers(1, 3))
    def others_request(self, threads: int) -> None:
        self.others.append(threads)
        if self.budget.request(threads, partial(self.others_granted.append, threads)):
            self.others_granted.append(threads)

    @precondition(lambda self: self.others_granted)
    @rule()
    def others_release(self) -> None:
        threads = self.others_granted.pop()
        self.others.remove(threads)
        self.budget.release(threads)

    @rule(seconds=st.integers(1, 5))
    def pass_time(self, seconds: int) -> None:
        for simulation in self.simulations:
            simulation.now += seconds

    @invariant()
    def someone_comes_for_every_row(self) -> None:
        for simulation, count_of_slots in zip(self.simulations, self.slots, strict=True):
            queue, slots = simulation.schedule.queue, simulation.schedule.slots
            entries = list(queue.in_order())
            assert len(slots.idle) + len(slots.in_line) + len(slots.busy) == count_of_slots
            assert sum(e.size - e.collected for e in entries) == queue.waiting_rows
            assert queue.waiting_rows <= MAX_QUEUE_SIZE
            assert all(e.state is EntryState.WAITING for e in entries)
            assert slots.available <= 0 or slots.in_line or all(e.slot is not None for e in entries)
            assert slots.running == len(simulation.running())
            at_work = (Phase.RUNNING, Phase.RUNNING_ALONE, Phase.WOKEN)
            given = [
                r
                for r in simulation.requests
                if r.phase in at_work or (r.entry is not None and r.entry.slot is not None)
            ]
            assert len(given) == len(slots.busy)

    @invariant()
    def every_core_is_accounted_for(self) -> None:
        held = sum(min(threads, self.budget.cores) for threads in self.others_granted)
        computing = held
        in_line = len(self.others) - len(self.others_granted)
        for simulation in self.simulations:
            slots = simulation.schedule.slots
            assert not any(slot.has_cores for slot in [*slots.idle, *slots.in_line])
            assert all(r.slot is not None and r.slot.has_cores for r in simulation.running())
            having = [slot for slot in slots.busy if slot.has_cores]
            granted = list(slots.in_line)[: simulation.grants]
            held += sum(self.taken(slot.engine.cores) for slot in having + granted)
            held += sum(self.taken(share) for share in simulation.surplus)
            computing += sum(self.taken(r.engine.cores) for r in simulation.running())
            in_line += len(slots.in_line) - simulation.grants
        assert computing <= held == self.budget.busy <= self.budget.cores
        assert in_line == len(self.budget._line)

    def taken(self, share: CoreShare | None) -> int:
        return min(share.threads, self.budget.cores) if share else 0

    def teardown(self) -> None:
        """Whatever happened, once the engines go on everybody is answered, and all cores free."""
        if not hasattr(self, "simulations"):
            return
        while True:
            for simulation in self.simulations:
                simulation.settle_threads()
            if running := self.running():
                simulation, request = running[0]
                simulation.finish(request)
            elif self.others_granted:
                self.others_release()
            elif not any(simulation.grants for simulation in self.simulations):
                break
        assert not self.others
        for simulation in self.simulations:
            schedule = simulation.schedule
            assert all(r.phase is Phase.DONE for r in simulation.requests)
            assert not schedule.queue.waiting_rows
            assert not schedule.slots.busy
            assert not schedule.slots.in_line
            schedule.accepting = False
            assert schedule.quiet
        assert self.budget.busy == self.budget.running == 0


TestInterleavings = Interleavings.TestCase
TestInterleavings.settings = settings(max_examples=800, stateful_step_count=50, deadline=None)


def test_an_entry_whose_thread_never_comes_back_passes_its_slot_on() -> None:
    schedule = Schedule(Engine(engine, max_batch_size=4), max_queue_size=8)
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
    schedule = Schedule(Engine(engine, max_batch_size=4, costs=costs), max_queue_size=8)
    # Whoever finds the engine idle is let in, however short the time.
    assert isinstance(schedule.arrive(rows_of([0]), 0.0, 0.01, Priority.NORMAL), Slot)
    with pytest.raises(DeadlineExceededError, match="refused on arrival"):
        schedule.arrive(rows_of([1]), 0.0, 0.15, Priority.NORMAL)
    assert isinstance(schedule.arrive(rows_of([2]), 0.0, 0.5, Priority.NORMAL), Entry)
