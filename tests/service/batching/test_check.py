"""Who would be refused on arrival is refused before anything is done for the request."""

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from convd.runtime.cores import CoreBudget
from convd.service.batching.entry import Priority
from convd.service.batching.schedule import Schedule
from convd.service.errors import DeadlineExceededError, QueueFullError, UnavailableError
from tests.service.batching.engines import engine_on

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


@given(
    requests=st.lists(REQUESTS, max_size=12), accepting=st.booleans(), instances=st.integers(0, 3)
)
def test_the_check_and_the_arrival_refuse_the_same(
    requests: list[tuple[int, float, Priority]], accepting: bool, instances: int
) -> None:
    budget = CoreBudget(max(1, instances))

    def seconds(rows: int, threads: int) -> float:
        return 1.0 + rows * budget.cores / threads

    schedule = Schedule(
        engine_on(budget.cores, budget, 4, seconds),
        engine_on(1, budget, 4, seconds) if instances else None,
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
