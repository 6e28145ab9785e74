"""Who would be refused on arrival is refused before anything is done for the request."""

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from runtime.cores import CoreBudget, CoreShare
from service.batching.costs import BatchCosts
from service.batching.engine import Engine
from service.batching.entry import Priority
from service.batching.schedule import Schedule
from service.errors import DeadlineExceededError, QueueFullError, UnavailableError
from tests.service.batching.simulation import engine

REQUESTS = st.tuples(
    st.integers(1, 6), st.floats(0.1, 60.0) | st.just(math.inf), st.sampled_from(Priority)
)


def refusal_of(schedule: Schedule, request: tuple[int, float, Priority], *, arrives: bool) -> str:
    size, deadline, priority = request
    try:
        if arrives:
            schedule.arrive(np.zeros((size, 1, 1, 1), np.uint8), 0.0, deadline, priority)
        else:
            schedule.check(size, 0.0, deadline, priority)
    except (DeadlineExceededError, QueueFullError, UnavailableError) as error:
        return str(error)
    return ""


def engine_on(threads: int, budget: CoreBudget) -> Engine:
    """As many of them run as there are cores for; fewer threads take longer."""
    executions = budget.cores // threads
    costs = BatchCosts()
    for rows in (1, 2, 4) * 4:
        costs.observe(rows, 1.0 + rows * executions)
    return Engine(
        engine,
        max_batch_size=4,
        max_concurrent_executions=executions,
        costs=costs,
        cores=CoreShare(budget, threads),
    )


@given(
    requests=st.lists(REQUESTS, max_size=12), accepting=st.booleans(), instances=st.integers(0, 3)
)
def test_the_check_and_the_arrival_refuse_the_same(
    requests: list[tuple[int, float, Priority]], accepting: bool, instances: int
) -> None:
    budget = CoreBudget(max(1, instances))
    schedule = Schedule(
        engine_on(budget.cores, budget),
        engine_on(1, budget) if instances else None,
        max_queue_size=12,
    )
    # The engine is busy from now on.
    schedule.arrive(np.zeros((1, 1, 1, 1), np.uint8), 0.0, math.inf, Priority.NORMAL)
    schedule.accepting = accepting
    for request in requests:
        waiting_rows = schedule.queue.waiting_rows
        refusal = refusal_of(schedule, request, arrives=False)
        assert schedule.queue.waiting_rows == waiting_rows
        assert refusal_of(schedule, request, arrives=True) == refusal
