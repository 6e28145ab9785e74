"""Any interleaving of threads, deadlines, cancellations and failures, with a fake clock."""

import math
from itertools import count

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from convd.runtime.cores import CoreAccount, CoreBudget, CoreRequest, CoreShare
from convd.service.batching.engine import BatchCosts, Engine
from convd.service.batching.entry import REQUEST_PRIORITIES, EntryState, Priority
from convd.service.batching.runners import Phase
from convd.service.batching.schedule import SMALL_BATCH_INTERVAL_SECONDS, GiveWay
from convd.service.errors import DeadlineExceededError, QueueFullError
from tests.service.batching.simulation import (
    Request,
    SimulatedRunner,
    Simulation,
    engine,
    ids_of,
    rows_of,
)

MAX_BATCH_SIZE = 4
MAX_QUEUE_SIZE = 12
SLEEPING = (Phase.ASLEEP, Phase.GATHERING, Phase.PAUSING)


class EngineFailedError(Exception):
    pass


class Interleavings(RuleBasedStateMachine):
    """Every thread takes its steps in any order; nothing may be lost, doubled or stuck.

    Two models share a few cores with others.
    """

    @initialize(
        cores=st.integers(1, 3),
        executions=st.tuples(st.integers(1, 3), st.integers(1, 3)),
        threads=st.tuples(st.integers(0, 3), st.integers(1, 4)),
        gathers=st.booleans(),
        instances=st.booleans(),
        closes=st.booleans(),
    )
    def start(
        self,
        cores: int,
        executions: tuple[int, int],
        threads: tuple[int, int],
        gathers: bool,
        instances: bool,
        closes: bool,
    ) -> None:
        self.closes = closes
        self.budget = CoreBudget(cores)
        self.others = CoreAccount()
        self.others_requests: list[CoreRequest] = []
        first = [self.engine(executions[0], threads[0], small_rows=2 * (threads[0] < 3))]
        second = [self.engine(executions[1], threads[1])]
        if instances:
            second = [self.engine(1, cores), self.engine(executions[1], 1)]
        self.simulations = [
            Simulation(*first, max_queue_size=MAX_QUEUE_SIZE, max_queue_delay_seconds=gathers * 3),
            Simulation(*second, max_queue_size=MAX_QUEUE_SIZE),
        ]
        self.ids = count()

    def engine(self, executions: int, threads: int, small_rows: int = 0) -> Engine:
        return Engine(
            engine,
            max_batch_size=MAX_BATCH_SIZE,
            max_concurrent_executions=executions,
            # No thread stands for an engine that takes no cores.
            cores=CoreShare(self.budget, threads) if threads else None,
            small_rows=small_rows,
        )

    @rule(
        index=st.integers(0, 1),
        size=st.integers(1, MAX_QUEUE_SIZE),
        timeout=st.one_of(st.just(math.inf), st.integers(1, 20)),
        priority=st.sampled_from(REQUEST_PRIORITIES),
    )
    def arrive(self, index: int, size: int, timeout: float, priority: Priority) -> None:
        simulation = self.simulations[index]
        schedule, runners = simulation.schedule, simulation.schedule.runners
        before = schedule.queue.waiting_rows
        engine_before = runners.engine
        phases = [runner.phase for runner in runners.all]
        can_start = runners.can_start(runners.choose(schedule.queue.waiting_requests + 1))
        deadline = simulation.now + timeout
        refused: type[Exception] | None = None
        try:
            schedule.check(size, simulation.now, deadline, priority)
        except (QueueFullError, DeadlineExceededError) as error:
            refused = type(error)
        try:
            simulation.arrive([next(self.ids) for _ in range(size)], deadline, priority)
            assert refused is None
        except (QueueFullError, DeadlineExceededError) as error:
            assert type(error) is refused
            if isinstance(error, QueueFullError):
                assert before + size > MAX_QUEUE_SIZE
            else:
                assert timeout < math.inf
                assert before or not can_start
            # A refused arrival changes nothing, not even what runs the batches.
            assert schedule.queue.waiting_rows == before
            assert runners.engine is engine_before
            assert [runner.phase for runner in runners.all] == phases

    def can_step(self) -> list[tuple[Simulation, Request | SimulatedRunner]]:
        return [(s, one) for s in self.simulations for one in s.threads() if s.can_step(one)]

    @precondition(lambda self: self.can_step())
    @rule(data=st.data())
    def step(self, data: st.DataObject) -> None:
        steps = self.can_step()
        simulation, thread = steps[data.draw(st.integers(0, len(steps) - 1))]
        simulation.take_step(thread)

    def running(self) -> list[tuple[Simulation, SimulatedRunner]]:
        return [(s, r) for s in self.simulations for r in s.running()]

    @precondition(lambda self: self.running())
    @rule(data=st.data(), fails=st.sampled_from([False, False, False, True]))
    def end_batch(self, data: st.DataObject, fails: bool) -> None:
        running = self.running()
        simulation, runner = running[data.draw(st.integers(0, len(running) - 1))]
        simulation.finish(runner, EngineFailedError() if fails else None)

    @precondition(lambda self: any(s.requests for s in self.simulations))
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        requests = [(s, r) for s in self.simulations for r in s.requests]
        simulation, request = requests[data.draw(st.integers(0, len(requests) - 1))]
        simulation.drop(request, EntryState.CANCELLED)

    @rule(threads=st.integers(1, 3))
    def others_request(self, threads: int) -> None:
        self.others_requests.append(self.budget.request(self.others, threads))

    @precondition(lambda self: any(request.granted for request in self.others_requests))
    @rule(seconds=st.integers(0, 5))
    def others_release(self, seconds: int) -> None:
        request = next(request for request in self.others_requests if request.granted)
        self.others_requests.remove(request)
        self.budget.release(request, seconds)

    @rule(seconds=st.integers(1, 5))
    def pass_time(self, seconds: int) -> None:
        for simulation in self.simulations:
            simulation.now += seconds

    @invariant()
    def some_runner_comes_for_every_row(self) -> None:
        for simulation in self.simulations:
            schedule, runners = simulation.schedule, simulation.schedule.runners
            entries = list(schedule.queue.in_order())
            assert sum(e.size - e.collected for e in entries) == schedule.queue.waiting_rows
            free_rows = len(runners.all) * MAX_BATCH_SIZE
            assert schedule.queue.waiting_rows <= MAX_QUEUE_SIZE + free_rows
            assert all(e.state is EntryState.WAITING for e in entries)
            awake = [r for r in runners.all if r.phase is not Phase.ASLEEP]
            assert awake or not entries
            asleep = [r for r in runners.all if r.phase is Phase.ASLEEP]
            coming = [r for r in awake if r.phase is not Phase.RUNNING]
            gathers = any(r.phase is Phase.GATHERING for r in coming)
            if any(r.engine is runners.engine for r in asleep) and not gathers:
                assert len(coming) >= min(len(entries), 1)

    @invariant()
    def phases_are_what_the_threads_do(self) -> None:
        for simulation in self.simulations:
            for runner in simulation.runners:
                assert (runner.runner.phase is Phase.RUNNING) == (runner.batch is not None)
                waits = isinstance(runner.step, CoreRequest)
                assert (runner.runner.phase is Phase.IN_LINE) == waits
                asleep = runner.runner.phase in SLEEPING
                assert not asleep or runner.runner.wake.locked()

    @invariant()
    def every_core_is_accounted_for(self) -> None:
        held = sum(request.cores for request in self.others_requests if request.granted)
        for simulation in self.simulations:
            for runner in simulation.runners:
                request = runner.runner.cores
                if request is not None and request.granted:
                    held += request.cores
                if runner.batch is not None and runner.rows > runner.small_rows:
                    assert request is not None
                    assert request.granted
                assert runner.runner.phase not in SLEEPING or request is None
        assert held == self.budget.busy <= self.budget.cores

    def teardown(self) -> None:
        """Whatever happened, once the engines go on every request is settled, all cores free."""
        if not hasattr(self, "simulations"):
            return
        if self.closes:
            for simulation in self.simulations:
                simulation.close()
        while True:
            # What one model does may give cores to the other.
            while self.can_step():
                for simulation in self.simulations:
                    simulation.settle_threads()
            if running := self.running():
                simulation, runner = running[0]
                simulation.finish(runner)
            elif any(request.granted for request in self.others_requests):
                self.others_release(seconds=0)
            elif any(r.sleeps_until < math.inf for s in self.simulations for r in s.runners):
                self.pass_time(seconds=3)
            else:
                break
        for simulation in self.simulations:
            schedule = simulation.schedule
            assert all(request.done for request in simulation.requests)
            assert not schedule.queue.waiting_rows
            if not self.closes:
                assert all(runner.phase is Phase.ASLEEP for runner in schedule.runners.all)
                assert simulation.quiet == 0
            simulation.drain()
            assert simulation.quiet > 0
            simulation.close()
            simulation.settle_threads()
            assert all(runner.ended for runner in simulation.runners)
        assert self.budget.busy == self.budget.running == 0


TestInterleavings = Interleavings.TestCase
TestInterleavings.settings = settings(
    max_examples=8 * settings().max_examples, stateful_step_count=60
)


def test_a_cost_known_from_warm_up_refuses_from_the_first_request_on() -> None:
    costs = BatchCosts()
    for rows in (1, 2, 4):
        costs.observe(rows, 0.1 * rows)
    simulation = Simulation(Engine(engine, max_batch_size=4, costs=costs))
    # A request that finds the engine idle is admitted, however short its time is.
    simulation.arrive([0], 0.01)
    simulation.settle_threads()
    with pytest.raises(DeadlineExceededError, match="refused on arrival"):
        simulation.arrive([1], 0.15)
    simulation.arrive([2], 0.5)


def test_rows_that_come_late_wait_for_cores_all_the_same() -> None:
    """The runner found nothing to ask cores for, and gives way while more rows arrive."""
    budget = CoreBudget(1)
    simulation = Simulation(
        Engine(engine, max_batch_size=16, cores=CoreShare(budget, 1), small_rows=2)
    )
    simulation.schedule.company = True
    simulation.arrive([0], math.inf)
    [runner] = simulation.runners
    simulation.take_step(runner)
    assert isinstance(runner.step, GiveWay)
    simulation.arrive([1, 2, 3, 4], math.inf)
    simulation.take_step(runner)
    assert runner.rows == 2
    assert budget.busy == 0
    simulation.finish(runner)
    simulation.settle_threads()
    assert (runner.rows, budget.busy) == (3, 1)


def test_a_small_batch_runs_without_asking_for_its_core() -> None:
    budget = CoreBudget(1)
    busy = budget.request(CoreAccount(), 1)
    simulation = Simulation(
        Engine(engine, max_batch_size=16, cores=CoreShare(budget, 1), small_rows=4)
    )
    simulation.arrive([0], math.inf)
    simulation.settle_threads()
    assert [runner.rows for runner in simulation.running()] == [1]
    for index in range(1, 12):
        simulation.arrive([index], math.inf)
    simulation.finish(simulation.running()[0])
    simulation.settle_threads()
    # Eleven rows are not small, and wait for the core.
    assert simulation.running() == []
    budget.release(busy, 1.0)
    simulation.settle_threads()
    assert [runner.rows for runner in simulation.running()] == [11]


def small_network_beside_a_large_one() -> tuple[Simulation, SimulatedRunner]:
    budget = CoreBudget(1)
    budget.request(CoreAccount(), 1)
    costs = BatchCosts()
    costs.observe(1, 0.001)
    cores = CoreShare(budget, 1)
    small = Engine(engine, max_batch_size=16, cores=cores, small_rows=4, costs=costs)
    simulation = Simulation(small)
    return simulation, simulation.runners[0]


def run_one_batch(simulation: Simulation, runner: SimulatedRunner) -> None:
    simulation.settle_threads()
    assert runner.batch is not None
    simulation.finish(runner)
    simulation.settle_threads()


def test_small_batches_beside_a_large_network_keep_their_distance() -> None:
    simulation, runner = small_network_beside_a_large_one()
    simulation.arrive([0], math.inf)
    run_one_batch(simulation, runner)
    # What comes meanwhile gathers.
    simulation.arrive([1], math.inf)
    simulation.arrive([2], math.inf)
    simulation.settle_threads()
    assert runner.runner.phase is Phase.PAUSING
    simulation.now += SMALL_BATCH_INTERVAL_SECONDS
    simulation.settle_threads()
    assert runner.rows == 2


def test_a_network_of_small_batches_alone_does_not_pause() -> None:
    cores = CoreShare(CoreBudget(1), 1)
    simulation = Simulation(Engine(engine, max_batch_size=16, cores=cores, small_rows=4))
    for index in range(3):
        simulation.arrive([index], math.inf)
        run_one_batch(simulation, simulation.runners[0])
    assert simulation.now == 0.0


def test_a_pause_ends_in_time_for_every_deadline() -> None:
    simulation, runner = small_network_beside_a_large_one()
    simulation.arrive([0], math.inf)
    run_one_batch(simulation, runner)
    simulation.arrive([1], 0.009)
    simulation.settle_threads()
    assert runner.runner.phase is Phase.PAUSING
    assert 0.007 < runner.sleeps_until <= 0.008
    # One that comes later and has less time.
    simulation.arrive([2], 0.003)
    simulation.settle_threads()
    assert runner.rows == 2


def test_a_model_that_computed_little_is_next() -> None:
    """Two models wait for the core; the one with the short batches has it more often."""
    budget = CoreBudget(1)
    models = [
        Simulation(Engine(engine, max_batch_size=1, cores=CoreShare(budget, 1))) for _ in range(2)
    ]
    for index in range(40):
        for model in models:
            model.arrive([index], math.inf)
    seconds = (0.3, 0.1)
    batches = [0, 0]
    for _ in range(40):
        for model in models:
            model.settle_threads()
        [(which, runner)] = [(i, r) for i, model in enumerate(models) for r in model.running()]
        batches[which] += 1
        for model in models:
            model.now += seconds[which]
        models[which].finish(runner)
    assert batches[1] == pytest.approx(3 * batches[0], abs=3)


def test_the_runner_takes_rows_in_order_of_arrival() -> None:
    simulation = Simulation(Engine(engine, max_batch_size=3))
    simulation.arrive([0], math.inf)
    simulation.settle_threads()
    for ids in ([1, 2], [3], [4, 5, 6, 7]):
        simulation.arrive(ids, math.inf)
    taken = []
    while running := simulation.running():
        batch = running[0].batch
        assert batch is not None
        taken.append([id_ for array in batch.arrays for id_ in ids_of(array)])
        simulation.finish(running[0])
        simulation.settle_threads()
    assert taken == [[0], [1, 2, 3], [4, 5, 6], [7]]
    assert rows_of([1]).shape == (1, 2, 2, 1)
