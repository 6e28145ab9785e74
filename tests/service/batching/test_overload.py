"""More load than the engine can bear, in simulated time: it stays useful all the same."""

import math
from collections.abc import Callable

import numpy as np
import pytest

from convd.service.batching.engine import Engine
from convd.service.errors import DeadlineExceededError, QueueFullError
from tests.service.batching.simulation import SimulatedRunner, Simulation, engine, run_open_loop

REFUSALS = (QueueFullError, DeadlineExceededError)
REQUESTS = 4000


def by_row(rows: int) -> float:
    return 0.025 * rows


def mixed(rows: int) -> float:
    return 0.004 + 0.0035 * rows


def nearly_fixed(rows: int) -> float:
    return 0.016 + 0.0004 * rows


def new_simulation(max_batch_size: int) -> Simulation:
    return Simulation(Engine(engine, max_batch_size=max_batch_size))


def poisson(rate: float, seed: int) -> list[float]:
    """Times of arrival, at random but the same in every run."""
    pauses = np.random.default_rng(seed).exponential(1 / rate, REQUESTS)
    return [float(moment) for moment in np.cumsum(pauses)]


@pytest.mark.parametrize(("load", "deviation"), [(2.0, 0.0), (2.0, 0.1), (5.0, 0.1)])
@pytest.mark.parametrize(
    ("cost", "max_batch_size"), [(by_row, 16), (mixed, 32), (nearly_fixed, 32)]
)
def test_nine_tenths_of_the_capacity_are_answered_in_time(
    cost: Callable[[int], float], max_batch_size: int, deviation: float, load: float
) -> None:
    capacity = max_batch_size / cost(max_batch_size)
    simulation = new_simulation(max_batch_size)
    arrivals = poisson(capacity * load, seed=1)
    generator = np.random.default_rng(2)
    drawn: dict[float, float] = {}

    def noisy_cost(run: SimulatedRunner) -> float:
        factor = drawn.setdefault(run.started_at, math.exp(generator.normal(0, deviation)))
        return cost(run.rows) * factor

    accepted = run_open_loop(
        simulation, arrivals, timeout_seconds=0.2, cost_seconds=noisy_cost, refusals=REFUSALS
    )

    answered = sum(request.answered for request in accepted)
    refused = len(arrivals) - len(accepted)
    assert answered >= 0.9 * capacity * arrivals[-1]
    assert len(accepted) - answered <= 0.06 * (refused + len(accepted) - answered)


@pytest.mark.parametrize("cost", [by_row, mixed, nearly_fixed])
def test_nobody_is_refused_while_there_is_time_for_all(cost: Callable[[int], float]) -> None:
    simulation = new_simulation(16)
    arrivals = poisson(0.8 * 16 / cost(16), seed=3)
    accepted = run_open_loop(
        simulation,
        arrivals,
        timeout_seconds=60.0,
        cost_seconds=lambda run: cost(run.rows),
        refusals=REFUSALS,
    )
    assert len(accepted) == len(arrivals)
    assert all(request.answered for request in accepted)


def test_an_engine_that_becomes_faster_is_used_again() -> None:
    """What was learned in bad times must not keep out those who could be answered now."""
    simulation = new_simulation(16)
    slow_until = 3.0

    def cost(run: SimulatedRunner) -> float:
        return (0.5 if run.started_at < slow_until else 0.005) + 0.0005 * run.rows

    arrivals = poisson(400, seed=4)
    accepted = run_open_loop(
        simulation, arrivals, timeout_seconds=0.1, cost_seconds=cost, refusals=REFUSALS
    )
    late_arrivals = sum(arrival > slow_until + 1.0 for arrival in arrivals)
    answered = sum(r.answered for r in accepted if r.arrived_at > slow_until + 1.0)
    assert answered >= 0.98 * late_arrivals


def test_hopeless_deadlines_end_expired_and_the_engine_runs_nobody_in_vain() -> None:
    """200 requests with 50 ms against an engine of 100 ms; the simulation checks every batch."""
    simulation = new_simulation(16)
    accepted = run_open_loop(
        simulation,
        [index / 1000 for index in range(200)],
        timeout_seconds=0.05,
        cost_seconds=lambda _: 0.1,
        refusals=REFUSALS,
    )
    assert not any(request.answered for request in accepted)
    # One that found the engine idle, and one that waited before its cost was known; the cost being
    # known, nobody else is let in to wait in vain.
    assert simulation.rows_run <= 3
    assert len(accepted) <= 105
