"""How admission counts the wait for cores, in simulated time."""

import math

import pytest

from convd.runtime.cores import CoreBudget, CoreShare
from convd.service.batching.costs import BatchCosts
from convd.service.batching.engine import Engine
from convd.service.batching.entry import EntryState
from convd.service.batching.schedule import Schedule
from convd.service.errors import DeadlineExceededError
from tests.service.batching.simulation import Phase, Simulation, engine

OTHERS_SECONDS = 0.4
BATCH_SECONDS = 0.01


def beside_others() -> tuple[Simulation, CoreBudget]:
    """One model on one core, which others take again and again."""
    budget = CoreBudget(1)
    costs = BatchCosts()
    for rows in (1, 4):
        costs.observe(rows, BATCH_SECONDS)
    schedule = Schedule(
        Engine(engine, max_batch_size=4, costs=costs, cores=CoreShare(budget, 1)),
        max_queue_size=40,
    )
    return Simulation(schedule), budget


def take_turns(simulation: Simulation, budget: CoreBudget, turns: int) -> None:
    """Others compute, and then a request that waited for them."""
    for _ in range(turns):
        assert budget.request(1, pytest.fail)
        request = simulation.arrive([0], math.inf)
        simulation.now += OTHERS_SECONDS
        budget.release(1)
        simulation.settle_threads()
        simulation.now += BATCH_SECONDS
        simulation.finish(request)
        simulation.settle_threads()
        assert request.answered


def test_who_cannot_be_answered_before_the_cores_come_is_refused_on_arrival() -> None:
    simulation, budget = beside_others()
    take_turns(simulation, budget, 40)
    assert simulation.schedule.slots.wait_seconds == pytest.approx(OTHERS_SECONDS, rel=0.05)
    assert budget.request(1, pytest.fail)
    # Somebody has to wait, however short the time.
    simulation.arrive([0], simulation.now + 0.1)
    with pytest.raises(DeadlineExceededError, match="refused on arrival"):
        simulation.arrive([1], simulation.now + 0.1)
    simulation.arrive([2], simulation.now + 0.5)
    simulation.now += 0.35
    # The cores are about to come.
    simulation.arrive([3], simulation.now + 0.1)
    budget.release(1)
    simulation.settle_threads()
    assert [r.running_rows for r in simulation.running()] == [2]


def test_a_wrong_estimate_shuts_nobody_out_who_comes_when_the_cores_are_free() -> None:
    simulation, budget = beside_others()
    take_turns(simulation, budget, 40)
    for _ in range(30):
        request = simulation.arrive([0], simulation.now + 0.05)
        assert request.phase is Phase.RUNNING_ALONE
        simulation.now += BATCH_SECONDS
        simulation.finish(request)
        simulation.settle_threads()
    assert simulation.schedule.slots.wait_seconds < BATCH_SECONDS


def test_somebody_is_there_when_the_cores_come_whatever_was_expected() -> None:
    """An engine that has been slow would not be tried again if all were refused until it is."""
    simulation, budget = beside_others()
    simulation.schedule.slots.engine.costs.observe(1, 1e6)
    assert budget.request(1, pytest.fail)
    requests = []
    for _ in range(8):
        requests.append(simulation.arrive([0], simulation.now + 0.1))
        with pytest.raises(DeadlineExceededError):
            simulation.arrive([1], simulation.now + 0.1)
        simulation.now += 0.1
        simulation.settle_threads()
    assert all(r.entry is not None and r.entry.state is EntryState.EXPIRED for r in requests)
    last = simulation.arrive([2], simulation.now + 0.1)
    budget.release(1)
    simulation.settle_threads()
    assert last.phase is Phase.RUNNING


def test_a_turn_is_not_lost_with_the_one_who_was_to_lead() -> None:
    simulation, budget = beside_others()
    assert budget.request(1, pytest.fail)
    first, second = simulation.arrive([0], math.inf), simulation.arrive([1], math.inf)
    others: list[str] = []
    assert not budget.request(1, lambda: others.append("granted"))
    budget.release(1)
    simulation.take_grant()
    assert first.entry is not None
    simulation.schedule.drop(first.entry, EntryState.CANCELLED, simulation.now)
    simulation.settle_threads()
    assert second.phase is Phase.RUNNING
    assert not others
    simulation.finish(second)
    simulation.settle_threads()
    assert others
