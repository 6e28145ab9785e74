"""Batchers that share cores, under real threads."""

import gc
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from convd.runtime.cores import CoreAccount, CoreBudget, CoreShare
from convd.service.batching.batcher import Batcher
from convd.service.batching.engine import Engine, Outputs, Rows
from convd.service.batching.entry import BatchedResult
from convd.service.cancellation import Cancellation
from convd.service.errors import (
    CallerGoneError,
    DeadlineExceededError,
    UnavailableError,
)
from tests.service.batching.gated import (
    PATIENCE_SECONDS,
    Counts,
    GatedEngine,
    assert_answers,
    eventually,
    submit_and_await,
)
from tests.service.batching.simulation import engine, rows_of


@contextmanager
def others_busy(budget: CoreBudget) -> Iterator[None]:
    """All cores are taken; afterwards all are given back."""
    request = budget.request(CoreAccount(), budget.cores)
    request.wait()
    yield
    budget.release(request, 1.0)
    eventually(lambda: budget.busy == budget.running == 0)


def one_core(
    budget: CoreBudget,
    run: Callable[[Rows], Outputs] = engine,
    *,
    max_batch_size: int = 8,
    **settings: Any,
) -> Batcher:
    one = Engine(run, max_batch_size=max_batch_size, cores=CoreShare(budget, 1))
    return Batcher(one, max_queue_size=40, **settings)


def test_those_that_arrive_during_a_batch_of_another_model_run_together(
    pool: ThreadPoolExecutor,
) -> None:
    budget = CoreBudget(1)
    large, small = GatedEngine(), GatedEngine()
    large_batcher, small_batcher = one_core(budget, large), one_core(budget, small)
    first = pool.submit(large_batcher.submit, rows_of([100]))
    large.await_start()
    behind = submit_and_await(pool, large_batcher, [101])
    others = [submit_and_await(pool, small_batcher, [index]) for index in range(6)]
    eventually(lambda: len(budget._line.waiting) == 1)
    assert small.batches == []
    large.let_go()
    small.await_start()
    # The small model has its turn before the next batch of the large one.
    assert large.batches == [[100]]
    small.let_go()
    large.await_start()
    large.let_go()
    for index, future in enumerate(others):
        result = future.result(PATIENCE_SECONDS)
        assert_answers(result, [index])
        assert result.batch_sizes == (6,)
    assert_answers(first.result(PATIENCE_SECONDS), [100])
    assert_answers(behind.result(PATIENCE_SECONDS), [101])
    assert small.batches == [[0, 1, 2, 3, 4, 5]]
    eventually(lambda: budget.busy == budget.running == 0)


def test_two_busy_models_share_the_core(pool: ThreadPoolExecutor) -> None:
    budget = CoreBudget(1)
    order: list[str] = []
    futures: list[Future[BatchedResult]] = []

    def named(name: str) -> Callable[[Rows], Outputs]:
        def run(rows: Rows) -> Outputs:
            order.append(name)
            time.sleep(0.003)
            return engine(rows)

        return run

    with others_busy(budget):
        for name in ("a", "b"):
            batcher = one_core(budget, named(name), max_batch_size=1)
            futures += [submit_and_await(pool, batcher, [index]) for index in range(10)]
    for future in futures:
        future.result(PATIENCE_SECONDS)
    assert sorted(order) == ["a"] * 10 + ["b"] * 10
    # Neither runs all its batches before the other.
    assert 2 <= order[:10].count("a") <= 8


def test_a_lone_model_keeps_its_cores_from_batch_to_batch(pool: ThreadPoolExecutor) -> None:
    budget = CoreBudget(1)
    gated = GatedEngine()
    batcher = one_core(budget, gated, max_batch_size=1)
    futures = [pool.submit(batcher.submit, rows_of([0]))]
    gated.await_start()
    futures += [submit_and_await(pool, batcher, [index]) for index in (1, 2)]
    gated.let_go(3)
    for index, future in enumerate(futures):
        assert_answers(future.result(PATIENCE_SECONDS), [index])
    eventually(lambda: budget.busy == budget.running == 0)


def test_the_wait_for_cores_is_no_time_of_the_engine(pool: ThreadPoolExecutor) -> None:
    now = 100.0

    def run(rows: Rows) -> Outputs:
        nonlocal now
        now += 2.0
        return engine(rows)

    budget = CoreBudget(1)
    batcher = one_core(budget, run, clock=lambda: now)
    with others_busy(budget):
        future = submit_and_await(pool, batcher, [1])
        now += 5.0
    result = future.result(PATIENCE_SECONDS)
    assert result.queue_seconds == pytest.approx(5.0)
    assert result.inference_seconds == pytest.approx(2.0)


def test_a_deadline_ends_the_wait_for_cores(pool: ThreadPoolExecutor) -> None:
    budget, counts = CoreBudget(1), Counts()
    gated = GatedEngine()
    batcher = one_core(budget, gated, observer=counts)
    with others_busy(budget):
        late = pool.submit(batcher.submit, rows_of([1]), deadline=time.monotonic() + 0.02)
        with pytest.raises(DeadlineExceededError):
            late.result(PATIENCE_SECONDS)
        assert batcher.waiting_rows == 0
    assert gated.batches == []
    assert counts.rows == {"expired": 1}


def test_a_cancellation_ends_the_wait_for_cores_and_others_stay(pool: ThreadPoolExecutor) -> None:
    budget, counts, cancellation = CoreBudget(1), Counts(), Cancellation()
    batcher = one_core(budget, observer=counts)
    with others_busy(budget):
        gone = submit_and_await(pool, batcher, [1], cancellation=cancellation)
        other = submit_and_await(pool, batcher, [2])
        cancellation.cancel()
        with pytest.raises(CallerGoneError):
            gone.result(PATIENCE_SECONDS)
        assert batcher.waiting_rows == 1
    assert_answers(other.result(PATIENCE_SECONDS), [2])
    assert counts.rows == {"cancelled": 1}
    assert counts.batches == [1]


def test_whoever_comes_after_all_have_left_takes_their_place_in_the_line(
    pool: ThreadPoolExecutor,
) -> None:
    budget, cancellation = CoreBudget(1), Cancellation()
    batcher = one_core(budget)
    with others_busy(budget):
        gone = submit_and_await(pool, batcher, [1], cancellation=cancellation)
        cancellation.cancel()
        with pytest.raises(CallerGoneError):
            gone.result(PATIENCE_SECONDS)
        other = submit_and_await(pool, batcher, [2], deadline=time.monotonic() + PATIENCE_SECONDS)
        assert len(budget._line.waiting) == 1
    assert_answers(other.result(PATIENCE_SECONDS), [2])


def test_who_gathers_others_keeps_no_cores_meanwhile(pool: ThreadPoolExecutor) -> None:
    budget = CoreBudget(1)
    batcher = one_core(budget, max_batch_size=3, max_queue_delay_seconds=PATIENCE_SECONDS)
    first = submit_and_await(pool, batcher, [0])
    with others_busy(budget):
        second = submit_and_await(pool, batcher, [1])
        third = submit_and_await(pool, batcher, [2])
        eventually(lambda: len(budget._line.waiting) == 1)
    for index, future in enumerate((first, second, third)):
        result = future.result(PATIENCE_SECONDS)
        assert_answers(result, [index])
        assert result.batch_sizes == (3,)


def test_who_has_cores_does_not_gather_any_more(pool: ThreadPoolExecutor) -> None:
    budget = CoreBudget(1)
    batcher = one_core(budget, max_batch_size=2, max_queue_delay_seconds=10 * PATIENCE_SECONDS)
    cancellation = Cancellation()
    with others_busy(budget):
        gone = submit_and_await(pool, batcher, [0], cancellation=cancellation)
        other = submit_and_await(pool, batcher, [1])
        eventually(lambda: len(budget._line.waiting) == 1)
        cancellation.cancel()
        with pytest.raises(CallerGoneError):
            gone.result(PATIENCE_SECONDS)
    assert_answers(other.result(PATIENCE_SECONDS), [1])


def test_drain_waits_for_the_cores_of_those_who_wait(pool: ThreadPoolExecutor) -> None:
    budget = CoreBudget(1)
    batcher = one_core(budget)
    with others_busy(budget):
        future = submit_and_await(pool, batcher, [1])
        assert not batcher.drain(0.01)
    assert batcher.drain(PATIENCE_SECONDS)
    assert_answers(future.result(PATIENCE_SECONDS), [1])


def test_drain_ends_when_the_last_who_waits_for_cores_expires(pool: ThreadPoolExecutor) -> None:
    budget = CoreBudget(1)
    batcher = one_core(budget)
    with others_busy(budget):
        future = submit_and_await(pool, batcher, [1], deadline=time.monotonic() + 0.1)
        assert batcher.drain(PATIENCE_SECONDS)
        with pytest.raises(DeadlineExceededError):
            future.result(PATIENCE_SECONDS)


def test_close_ends_the_wait_for_cores_and_gives_up_the_place(pool: ThreadPoolExecutor) -> None:
    budget = CoreBudget(1)
    batcher = one_core(budget)
    with others_busy(budget):
        future = submit_and_await(pool, batcher, [1])
        batcher.close()
        with pytest.raises(UnavailableError):
            future.result(PATIENCE_SECONDS)
        assert batcher.drain(PATIENCE_SECONDS)


def test_a_closed_batcher_frees_its_engine_without_the_garbage_collector() -> None:
    class Engine:
        def __call__(self, rows: Rows) -> Outputs:
            return engine(rows)

    run = Engine()
    gone = weakref.ref(run)
    batcher = one_core(CoreBudget(1), run)
    batcher.submit(rows_of([1]))
    batcher.close()
    gc.disable()
    try:
        del run, batcher
        eventually(lambda: gone() is None)
    finally:
        gc.enable()
