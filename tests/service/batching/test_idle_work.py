"""Rows of low priority run while there is nothing else to do, and give way at once."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from convd.runtime.cores import CoreBudget, CoreShare
from convd.runtime.interruption import InterruptedRunError
from convd.service.batching.batcher import Batcher
from convd.service.batching.engine import Engine
from convd.service.batching.entry import EntryState, Priority
from convd.service.batching.idle_work import LONGEST_BATCH_SECONDS, QUIET_SECONDS
from convd.service.cancellation import Cancellation
from convd.service.errors import CallerGoneError, DeadlineExceededError, UnavailableError
from tests.service.batching.simulation import Simulation, engine, rows_of

FOREVER = float("inf")


def simulation() -> Simulation:
    return Simulation(Engine(engine, max_batch_size=8))


def interrupted(found: Simulation) -> bool:
    (runner,) = found.running()
    assert runner.batch is not None
    return runner.batch.interruption is not None and runner.batch.interruption.is_set


def test_an_idle_model_runs_it_at_once() -> None:
    found = simulation()
    request = found.arrive([1, 2], FOREVER, Priority.LOW)
    found.settle_threads()
    found.finish(found.running()[0])
    found.settle_threads()
    assert request.answered


def test_it_waits_until_a_model_has_been_quiet() -> None:
    found = simulation()
    found.arrive([1], FOREVER)
    found.settle_threads()
    low = found.arrive([2], FOREVER, Priority.LOW)
    found.finish(found.running()[0])
    found.settle_threads()
    assert not found.running()
    found.now += QUIET_SECONDS
    found.settle_threads()
    assert found.running()[0].rows == 1
    found.finish(found.running()[0])
    found.settle_threads()
    assert low.answered


def test_a_request_interrupts_it_and_it_runs_again_later() -> None:
    found = simulation()
    low = found.arrive([1], FOREVER, Priority.LOW)
    found.settle_threads()
    assert not interrupted(found)
    request = found.arrive([2], FOREVER)
    assert interrupted(found)
    found.finish(found.running()[0], InterruptedRunError())
    found.settle_threads()
    batch = found.running()[0].batch
    assert batch is not None
    assert batch.owners == [request.entry]
    found.finish(found.running()[0])
    found.settle_threads()
    assert request.answered
    found.now += QUIET_SECONDS
    found.settle_threads()
    found.finish(found.running()[0])
    found.settle_threads()
    assert low.answered


def test_batches_grow_with_the_time_that_has_been_quiet() -> None:
    found = simulation()
    for rows in (1, 2, 4, 8) * 20:
        found.schedule.runners.engine.costs.observe(rows, 0.01 * rows)
    ids = list(range(1, 11))
    low = found.arrive(ids, FOREVER, Priority.LOW)
    found.arrive([99], FOREVER)
    found.settle_threads()
    found.finish(found.running()[0])
    found.now += QUIET_SECONDS
    found.settle_threads()
    sizes = [found.running()[0].rows]
    found.finish(found.running()[0])
    found.now += 1.0
    found.settle_threads()
    while found.running():
        sizes.append(found.running()[0].rows)
        found.finish(found.running()[0])
        found.settle_threads()
    # The second one began at once.
    assert sizes[:2] == [1, 1]
    assert 1 < max(sizes) <= LONGEST_BATCH_SECONDS / 0.01
    assert sum(sizes) == len(ids)
    assert low.entry.result().outputs[0].ravel().tolist() == ids


def test_only_what_was_interrupted_runs_again() -> None:
    found = Simulation(Engine(engine, max_batch_size=4))
    low = found.arrive([1, 2, 3, 4, 5, 6], FOREVER, Priority.LOW)
    found.settle_threads()
    assert found.running()[0].rows == 4
    found.finish(found.running()[0])
    found.settle_threads()
    request = found.arrive([7], FOREVER)
    found.finish(found.running()[0], InterruptedRunError())
    found.settle_threads()
    found.finish(found.running()[0])
    found.now += QUIET_SECONDS
    found.settle_threads()
    while found.running():
        found.finish(found.running()[0])
        found.settle_threads()
    assert request.answered
    assert found.rows_run == 6 + 2 + 1
    assert low.entry.result().outputs[0].ravel().tolist() == [1, 2, 3, 4, 5, 6]


def test_it_gives_way_to_other_models_on_the_same_cores() -> None:
    budget = CoreBudget(2)
    explained, asked = (
        Simulation(Engine(engine, max_batch_size=4, cores=CoreShare(budget, 2))) for _ in range(2)
    )
    low = explained.arrive([1], FOREVER, Priority.LOW)
    explained.settle_threads()
    asked.now = explained.now
    asked.arrive([2], FOREVER)
    assert interrupted(explained)
    explained.finish(explained.running()[0], InterruptedRunError())
    asked.settle_threads()
    asked.finish(asked.running()[0])
    asked.settle_threads()
    explained.settle_threads()
    assert not explained.running()
    explained.now += QUIET_SECONDS
    explained.settle_threads()
    explained.finish(explained.running()[0])
    assert low.answered
    assert not budget.idleness.running


def test_a_failure_of_some_rows_ends_the_whole_explanation() -> None:
    found = Simulation(Engine(engine, max_batch_size=2))
    low = found.arrive([1, 2, 3], FOREVER, Priority.LOW)
    found.settle_threads()
    found.finish(found.running()[0], ValueError("broken"))
    found.settle_threads()
    assert low.entry.state is EntryState.FAILED
    assert not found.running()


def test_it_never_fills_the_queue_nor_a_batch_of_others() -> None:
    found = Simulation(Engine(engine, max_batch_size=8), max_queue_size=2)
    found.arrive([0], FOREVER)
    found.settle_threads()
    for number in range(1, 6):
        found.arrive([number], FOREVER, Priority.LOW)
    found.arrive([10], FOREVER)
    found.arrive([11], FOREVER)
    found.finish(found.running()[0])
    found.settle_threads()
    assert found.running()[0].rows == 2


def test_who_has_gone_or_is_too_late_is_not_run() -> None:
    found = simulation()
    found.arrive([0], FOREVER)
    found.settle_threads()
    gone = found.arrive([1], FOREVER, Priority.LOW)
    late = found.arrive([2], 0.01, Priority.LOW)
    found.drop(gone, EntryState.CANCELLED)
    found.finish(found.running()[0])
    found.now += 1
    found.settle_threads()
    assert not found.running()
    assert (gone.entry.state, late.entry.state) == (EntryState.CANCELLED, EntryState.EXPIRED)


def test_who_leaves_during_the_run_ends_it() -> None:
    found = simulation()
    low = found.arrive([1], FOREVER, Priority.LOW)
    found.settle_threads()
    found.drop(low, EntryState.CANCELLED)
    assert interrupted(found)
    found.finish(found.running()[0], InterruptedRunError())
    found.settle_threads()
    assert not found.running()
    assert not found.schedule.idle_work.waiting


def test_a_drain_does_not_wait_for_it() -> None:
    found = simulation()
    running = found.arrive([1], FOREVER, Priority.LOW)
    waiting = found.arrive([2], FOREVER, Priority.LOW)
    found.settle_threads()
    found.drain()
    assert interrupted(found)
    assert waiting.entry.state is EntryState.REFUSED
    found.finish(found.running()[0], InterruptedRunError())
    found.settle_threads()
    assert running.entry.state is EntryState.REFUSED
    assert found.quiet
    with pytest.raises(UnavailableError):
        found.arrive([3], FOREVER, Priority.LOW)


@given(st.lists(st.sampled_from(["high", "normal", "low", "finish", "wait"]), max_size=60))
def test_every_request_is_answered_and_none_waits_for_low_ones(steps: list[str]) -> None:
    found = Simulation(Engine(engine, max_batch_size=3))
    for number, step in enumerate(steps):
        if step == "finish":
            for runner in found.running():
                found.finish(runner, InterruptedRunError() if interrupted(found) else None)
        elif step == "wait":
            found.now += QUIET_SECONDS
        else:
            ids = [5 * number + each for each in range(5 if step == "low" else 1)]
            found.arrive(ids, FOREVER, Priority[step.upper()])
            if step != "low" and found.running():
                (runner,) = found.running()
                assert runner.batch is not None
                is_low = runner.batch.owners[0].priority is Priority.LOW
                assert interrupted(found) == is_low
        found.settle_threads()
    for _ in range(6 * len(steps) + 2):
        for runner in found.running():
            found.finish(runner, InterruptedRunError() if interrupted(found) else None)
        found.settle_threads()
        found.now += QUIET_SECONDS
        found.settle_threads()
    for request in found.requests:
        assert request.entry.result().outputs[0].ravel().tolist() == request.ids


def test_a_batcher_answers_and_ends_it() -> None:
    batcher = Batcher(
        Engine(lambda rows, _extras, _interruption: engine(rows), max_batch_size=4),
        max_queue_size=4,
    )
    answer = batcher.submit(rows_of([5]), priority=Priority.LOW)
    assert answer.outputs[0].tolist() == [[5.0]]
    gone = Cancellation()
    gone.cancel()
    with pytest.raises(CallerGoneError):
        batcher.submit(rows_of([5]), priority=Priority.LOW, cancellation=gone)
    with pytest.raises(DeadlineExceededError):
        batcher.submit(rows_of([5]), priority=Priority.LOW, deadline=0.0)
    assert np.isfinite(answer.inference_seconds)
    batcher.close()
