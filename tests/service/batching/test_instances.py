"""Few requests run on all cores, one batch after another; many run on a core each."""

import math
from collections.abc import Callable

import numpy as np
import pytest

from convd.runtime.cores import CoreAccount, CoreBudget
from convd.service.batching.batcher import Batcher
from convd.service.batching.runners import Phase
from convd.service.errors import DeadlineExceededError, QueueFullError
from tests.service.batching.engines import engine_on
from tests.service.batching.simulation import (
    Request,
    SimulatedRunner,
    Simulation,
    run_open_loop,
)

ROW_SECONDS = 0.04


def seconds(rows: int, threads: int) -> float:
    """The threads share the work evenly."""
    return rows * ROW_SECONDS / threads


def with_instances(budget: CoreBudget) -> Simulation:
    return Simulation(
        engine_on(budget.cores, budget, 16, seconds), engine_on(1, budget, 4, seconds)
    )


def arrive(simulation: Simulation, count: int) -> list[Request]:
    """Let requests of one row arrive, the first alone."""
    requests = []
    for index in range(count):
        requests.append(simulation.arrive([index], math.inf))
        simulation.settle_threads()
    return requests


def finish(simulation: Simulation, *runners: SimulatedRunner) -> None:
    for runner in runners:
        simulation.finish(runner)
        simulation.settle_threads()


def sizes(simulation: Simulation) -> list[tuple[int, int]]:
    """Threads and rows of the batches that run."""
    return sorted((runner.threads, runner.rows) for runner in simulation.running())


def test_a_lone_request_has_all_cores() -> None:
    budget = CoreBudget(2)
    simulation = with_instances(budget)
    for _ in range(3):
        arrive(simulation, 1)
        assert sizes(simulation) == [(2, 1)]
        assert budget.busy == 2
        finish(simulation, *simulation.running())
        assert budget.busy == 0


def test_those_that_come_meanwhile_run_on_a_core_each() -> None:
    budget = CoreBudget(2)
    simulation = with_instances(budget)
    arrive(simulation, 7)
    # Nobody computes beside a batch on all cores.
    assert sizes(simulation) == [(2, 1)]
    finish(simulation, *simulation.running())
    assert sizes(simulation) == [(1, 3), (1, 3)]
    assert budget.busy == 2


def test_an_instance_leaves_the_others_their_share() -> None:
    """Or one would answer many at a time, and the others a few again and again."""
    simulation = with_instances(CoreBudget(2))
    arrive(simulation, 3)
    finish(simulation, *simulation.running())
    one, other = simulation.running()
    arrive(simulation, 3)
    # Four rows are here but for the one that has ended, so each has two.
    finish(simulation, one)
    assert sizes(simulation) == [(1, 1), (1, 2)]
    finish(simulation, other)
    assert sizes(simulation) == [(1, 1), (1, 2)]


def test_the_last_instance_is_followed_by_a_batch_on_all_cores() -> None:
    budget = CoreBudget(2)
    simulation = with_instances(budget)
    arrive(simulation, 3)
    finish(simulation, *simulation.running())
    one, other = simulation.running()
    finish(simulation, one, other)
    assert budget.busy == 0
    arrive(simulation, 1)
    assert sizes(simulation) == [(2, 1)]


def test_requests_that_are_too_few_for_all_instances_run_one_after_another() -> None:
    budget = CoreBudget(4)
    simulation = with_instances(budget)
    arrive(simulation, 3)
    finish(simulation, *simulation.running())
    assert sizes(simulation) == [(4, 2)]
    assert sum(runner.phase is Phase.IN_LINE for runner in simulation.schedule.runners.all) == 0


def test_a_request_that_finds_no_room_changes_nothing() -> None:
    """Not even what runs the batches: runners would be left asleep while rows wait."""
    budget = CoreBudget(2)
    simulation = with_instances(budget)
    budget.request(CoreAccount(), 2)
    simulation.arrive(list(range(600)), math.inf)
    simulation.settle_threads()
    runners = simulation.schedule.runners
    before = runners.engine
    with pytest.raises(QueueFullError):
        simulation.arrive(list(range(600)), math.inf)
    assert runners.engine is before
    simulation.arrive([0], math.inf)
    assert runners.engine is not before


def test_instances_go_on_while_more_than_half_of_them_have_work() -> None:
    budget = CoreBudget(4)
    simulation = with_instances(budget)
    arrive(simulation, 5)
    finish(simulation, *simulation.running())
    assert sizes(simulation) == [(1, 1)] * 4
    one, two, three, four = simulation.running()
    finish(simulation, one)
    arrive(simulation, 1)
    assert sizes(simulation) == [(1, 1)] * 4
    finish(simulation, two, three)
    assert sizes(simulation) == [(1, 1)] * 2
    # One waits and two run: three of four.
    arrive(simulation, 1)
    assert sizes(simulation) == [(1, 1)] * 3
    finish(simulation, four)
    finish(simulation, simulation.running()[0])
    # One runs and one comes: half of them would do, so that one waits for all cores.
    arrive(simulation, 1)
    assert sizes(simulation) == [(1, 1)]
    finish(simulation, *simulation.running())
    assert sizes(simulation) == [(4, 1)]
    assert budget.busy == 4


def test_a_lone_request_beside_instances_of_another_model_waits_for_one_core() -> None:
    """For all cores it would wait until the last of them ends, and one core would stand idle."""
    budget = CoreBudget(2)
    busy, other = with_instances(budget), with_instances(budget)
    arrive(busy, 5)
    finish(busy, *busy.running())
    one, two = busy.running()
    [lone] = arrive(other, 1)
    assert sizes(other) == []
    finish(busy, one)
    other.settle_threads()
    assert sizes(other) == [(1, 1)]
    finish(busy, two)
    finish(other, *other.running())
    assert lone.answered
    assert budget.busy == 0


def test_a_lone_request_beside_a_batch_on_all_cores_waits_for_all() -> None:
    budget = CoreBudget(2)
    busy, other = with_instances(budget), with_instances(budget)
    arrive(busy, 1)
    arrive(other, 1)
    finish(busy, *busy.running())
    other.settle_threads()
    assert sizes(other) == [(2, 1)]


def test_a_lone_request_larger_than_a_batch_has_all_cores_from_the_first_row_to_the_last() -> None:
    simulation = with_instances(CoreBudget(2))
    request = simulation.arrive(list(range(40)), math.inf)
    for rows in (16, 16, 8):
        simulation.settle_threads()
        assert sizes(simulation) == [(2, rows)]
        finish(simulation, *simulation.running())
    assert request.answered


def test_who_cannot_wait_for_the_batch_on_all_cores_is_refused_on_arrival() -> None:
    """An instance is idle, but has no core before that batch ends."""
    simulation = with_instances(CoreBudget(2))
    simulation.arrive(list(range(10)), math.inf)  # for 0.2 s
    simulation.settle_threads()
    with pytest.raises(DeadlineExceededError, match="refused on arrival"):
        simulation.arrive([10], 0.21)
    simulation.arrive([10], 0.25)
    simulation.arrive([11], 0.25)
    with pytest.raises(DeadlineExceededError, match="refused on arrival"):
        simulation.arrive([12], 0.25)
    simulation.arrive([12], 0.29)


def test_rows_that_gather_do_so_for_all_cores_only() -> None:
    budget = CoreBudget(2)
    with pytest.raises(ValueError, match="exclude each other"):
        Batcher(
            engine_on(2, budget, 4, seconds),
            engine_on(1, budget, 2, seconds),
            max_queue_size=8,
            max_queue_delay_seconds=0.1,
        )


@pytest.mark.parametrize("deviation", [0.0, 0.1])
@pytest.mark.parametrize(("cores", "load"), [(2, 2.0), (2, 5.0), (4, 2.0), (16, 2.0)])
def test_nine_tenths_of_the_capacity_are_answered_in_time(
    cores: int, load: float, deviation: float
) -> None:
    simulation = with_instances(CoreBudget(cores))
    capacity = cores / ROW_SECONDS
    generator = np.random.default_rng(1)
    pauses = generator.exponential(1 / (capacity * load), round(2000 * load))
    arrivals = [float(moment) for moment in np.cumsum(pauses)]
    accepted = run_open_loop(
        simulation,
        arrivals,
        timeout_seconds=0.2,
        cost_seconds=noisy(deviation),
        refusals=(QueueFullError, DeadlineExceededError),
    )
    answered = sum(request.answered for request in accepted)
    assert answered >= 0.9 * capacity * arrivals[-1]
    # The rest is refused on arrival, but for one in twenty.
    assert len(accepted) - answered <= 0.05 * (len(arrivals) - answered)


def noisy(deviation: float) -> Callable[[SimulatedRunner], float]:
    generator = np.random.default_rng(2)
    drawn: dict[tuple[float, int], float] = {}

    def cost(run: SimulatedRunner) -> float:
        assert run.engine.cores is not None
        key = (run.started_at, id(run))
        factor = drawn.setdefault(key, math.exp(generator.normal(0, deviation)))
        return run.rows * ROW_SECONDS / run.engine.cores.threads * factor

    return cost
