"""How admission counts the wait for cores, in simulated time."""

import math

import pytest

from convd.runtime.cores import CoreAccount, CoreBudget, CoreShare
from convd.service.batching.engine import BatchCosts, Engine
from convd.service.batching.entry import EntryState
from convd.service.errors import DeadlineExceededError
from tests.service.batching.simulation import Simulation, engine

OTHERS_SECONDS = 0.4
BATCH_SECONDS = 0.01


class Shared:
    """One model on one core, which others take again and again."""

    def __init__(self) -> None:
        self.budget = CoreBudget(1)
        self.others = CoreAccount()
        costs = BatchCosts()
        for rows in (1, 4):
            costs.observe(rows, BATCH_SECONDS)
        self.simulation = Simulation(
            Engine(engine, max_batch_size=4, costs=costs, cores=CoreShare(self.budget, 1)),
            max_queue_size=40,
        )

    @property
    def wait_seconds(self) -> float:
        return self.simulation.schedule.runners.wait_seconds

    def take_turns(self, turns: int) -> None:
        """Others compute, and then a request that waited for them."""
        simulation = self.simulation
        for _ in range(turns):
            busy = self.budget.request(self.others, 1)
            assert busy.granted
            request = simulation.arrive([0], math.inf)
            simulation.settle_threads()
            simulation.now += OTHERS_SECONDS
            self.budget.release(busy, OTHERS_SECONDS)
            self.finish_batch()
            assert request.answered

    def finish_batch(self) -> None:
        simulation = self.simulation
        simulation.settle_threads()
        simulation.now += BATCH_SECONDS
        simulation.finish(simulation.running()[0])
        simulation.settle_threads()


def test_a_request_that_cannot_be_answered_before_the_cores_come_is_refused_on_arrival() -> None:
    shared = Shared()
    shared.take_turns(40)
    simulation = shared.simulation
    assert shared.wait_seconds == pytest.approx(OTHERS_SECONDS, rel=0.05)
    busy = shared.budget.request(shared.others, 1)
    # One is always admitted, however short its time is.
    simulation.arrive([0], simulation.now + 0.1)
    simulation.settle_threads()
    with pytest.raises(DeadlineExceededError, match="refused on arrival"):
        simulation.arrive([1], simulation.now + 0.1)
    simulation.arrive([2], simulation.now + 0.5)
    simulation.now += 0.35
    # The cores are about to come.
    simulation.arrive([3], simulation.now + 0.1)
    shared.budget.release(busy, 0.35)
    simulation.settle_threads()
    assert [runner.rows for runner in simulation.running()] == [2]


def test_a_wrong_estimate_refuses_no_request_that_comes_when_the_cores_are_free() -> None:
    shared = Shared()
    shared.take_turns(40)
    simulation = shared.simulation
    for _ in range(30):
        simulation.arrive([0], simulation.now + 0.05)
        simulation.settle_threads()
        assert simulation.running()
        shared.finish_batch()
    assert shared.wait_seconds < BATCH_SECONDS


def test_one_request_waits_for_the_cores_whatever_was_expected() -> None:
    """An engine that has been slow would not be tried again if all were refused until it is."""
    shared = Shared()
    simulation = shared.simulation
    simulation.schedule.runners.engine.costs.observe(1, 1e6)
    busy = shared.budget.request(shared.others, 1)
    requests = []
    for _ in range(8):
        requests.append(simulation.arrive([0], simulation.now + 0.1))
        simulation.settle_threads()
        with pytest.raises(DeadlineExceededError):
            simulation.arrive([1], simulation.now + 0.1)
        simulation.now += 0.1
        simulation.settle_threads()
    assert all(request.entry.state is EntryState.EXPIRED for request in requests)
    simulation.arrive([2], simulation.now + 0.1)
    shared.budget.release(busy, 0.8)
    simulation.settle_threads()
    assert [runner.rows for runner in simulation.running()] == [1]


def test_cores_that_come_for_nothing_go_on_to_others() -> None:
    shared = Shared()
    simulation = shared.simulation
    busy = shared.budget.request(shared.others, 1)
    request = simulation.arrive([0], math.inf)
    simulation.settle_threads()
    behind = shared.budget.request(CoreAccount(), 1)
    simulation.drop(request, EntryState.CANCELLED)
    shared.budget.release(busy, 1.0)
    simulation.settle_threads()
    assert behind.granted
    assert simulation.running() == []
