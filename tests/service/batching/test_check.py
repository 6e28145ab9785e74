"""A request that would be refused on arrival is refused before anything is done for it."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convd.runtime.cores import CoreBudget
from convd.service.batching.entry import REQUEST_PRIORITIES, Entry, Priority
from convd.service.errors import DeadlineExceededError, QueueFullError, UnavailableError
from tests.service.batching.engines import engine_on
from tests.service.batching.simulation import Simulation, rows_of

REQUESTS = st.tuples(
    st.integers(1, 6), st.floats(0.1, 60.0) | st.just(math.inf), st.sampled_from(REQUEST_PRIORITIES)
)


def refusal_of(
    simulation: Simulation, request: tuple[int, float, Priority], *, arrives: bool
) -> str:
    size, deadline, priority = request
    try:
        if arrives:
            simulation.arrive([0] * size, deadline, priority)
        else:
            simulation.schedule.check(size, 0.0, deadline, priority)
    except (DeadlineExceededError, QueueFullError, UnavailableError) as error:
        return str(error)
    return ""


@given(
    requests=st.lists(REQUESTS, max_size=12), accepting=st.booleans(), instances=st.integers(0, 3)
)
def test_the_check_and_the_arrival_refuse_the_same(
    requests: list[tuple[int, float, Priority]], accepting: bool, instances: int
) -> None:
    budget = CoreBudget(max(1, instances))

    def seconds(rows: int, threads: int) -> float:
        return 1.0 + rows * budget.cores / threads

    engines = [engine_on(budget.cores, budget, 4, seconds)]
    if instances:
        engines.append(engine_on(1, budget, 4, seconds))
    simulation = Simulation(*engines, max_queue_size=12)
    # The engine is busy from now on.
    simulation.arrive([0], math.inf)
    simulation.settle_threads()
    queue = simulation.schedule.queue
    if not accepting:
        simulation.drain()
    for request in requests:
        waiting_rows = queue.waiting_rows
        refusal = refusal_of(simulation, request, arrives=False)
        assert queue.waiting_rows == waiting_rows
        assert refusal_of(simulation, request, arrives=True) == refusal


def test_an_admitted_request_is_not_asked_again_but_needs_room() -> None:
    """Its images were decoded meanwhile: what waits now does not make that work useless."""
    budget = CoreBudget(1)
    simulation = Simulation(engine_on(1, budget, 4, lambda rows, _: float(rows)), max_queue_size=5)
    simulation.arrive([0], math.inf)
    simulation.settle_threads()
    schedule = simulation.schedule
    schedule.check(1, 0.0, 3.0, Priority.NORMAL)
    simulation.arrive([1, 2, 3], math.inf)
    with pytest.raises(DeadlineExceededError):
        schedule.check(1, 0.0, 3.0, Priority.NORMAL)
    schedule.arrive(Entry(rows_of([4]), 0.0, 3.0), admitted=True)
    with pytest.raises(QueueFullError):
        schedule.arrive(Entry(rows_of([5, 6]), 0.0, 3.0), admitted=True)
