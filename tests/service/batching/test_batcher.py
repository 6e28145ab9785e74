"""How requests become batches, under real threads."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from convd.service.batching.batcher import Batcher
from convd.service.batching.engine import Engine, Outputs, Rows
from convd.service.batching.entry import Priority
from convd.service.errors import (
    InferenceFailedError,
    InvalidRequestError,
    QueueFullError,
)
from tests.service.batching.gated import (
    PATIENCE_SECONDS,
    Counts,
    GatedEngine,
    assert_answers,
    submit_and_await,
)
from tests.service.batching.simulation import engine, rows_of


def test_a_lone_request_reaches_the_engine_without_a_copy() -> None:
    seen: list[Rows] = []

    def run(rows: Rows) -> Outputs:
        seen.append(rows)
        return engine(rows)

    rows = rows_of([7, 8])
    result = Batcher(Engine(run, max_batch_size=4), max_queue_size=4).submit(rows)
    assert_answers(result, [7, 8])
    assert seen[0] is rows
    assert result.batch_sizes == (2,)


@pytest.mark.parametrize("size", [4, 9])
def test_an_idle_engine_takes_a_request_that_is_larger_than_the_queue(size: int) -> None:
    batcher = Batcher(Engine(engine, max_batch_size=size), max_queue_size=2)
    assert_answers(batcher.submit(rows_of(range(size))), list(range(size)))


def test_those_that_arrive_during_a_batch_run_together(pool: ThreadPoolExecutor) -> None:
    gated, counts = GatedEngine(), Counts()
    batcher = Batcher(Engine(gated, max_batch_size=8), max_queue_size=20, observer=counts)
    first = pool.submit(batcher.submit, rows_of([0]))
    gated.await_start()
    others = [submit_and_await(pool, batcher, [index]) for index in range(1, 11)]
    gated.let_go(3)
    assert_answers(first.result(PATIENCE_SECONDS), [0])
    for index, future in enumerate(others, 1):
        assert_answers(future.result(PATIENCE_SECONDS), [index])
    assert gated.batches == [[0], [1, 2, 3, 4, 5, 6, 7, 8], [9, 10]]
    assert sorted(counts.batches) == [1, 2, 8]


def test_a_large_request_is_split_and_answered_in_order() -> None:
    gated = GatedEngine()
    gated.let_go(10)
    batcher = Batcher(Engine(gated, max_batch_size=4), max_queue_size=20)
    ids = list(range(11))
    result = batcher.submit(rows_of(ids))
    assert_answers(result, ids)
    assert result.batch_sizes == (4, 4, 3)
    assert gated.batches == [ids[:4], ids[4:8], ids[8:]]


def test_high_priority_goes_first(pool: ThreadPoolExecutor) -> None:
    gated = GatedEngine()
    batcher = Batcher(Engine(gated, max_batch_size=2), max_queue_size=20)
    futures = [pool.submit(batcher.submit, rows_of([0]))]
    gated.await_start()
    futures += [submit_and_await(pool, batcher, [index]) for index in (1, 2)]
    futures += [
        submit_and_await(pool, batcher, [index], priority=Priority.HIGH) for index in (3, 4)
    ]
    gated.let_go(3)
    for future in futures:
        future.result(PATIENCE_SECONDS)
    assert gated.batches == [[0], [3, 4], [1, 2]]


def test_a_full_queue_refuses_at_once(pool: ThreadPoolExecutor) -> None:
    gated, counts = GatedEngine(), Counts()
    batcher = Batcher(Engine(gated, max_batch_size=4), max_queue_size=3, observer=counts)
    first = pool.submit(batcher.submit, rows_of([0]))
    gated.await_start()
    second = submit_and_await(pool, batcher, [1, 2])
    with pytest.raises(QueueFullError, match="max_queue_size"):
        batcher.submit(rows_of([3, 4]))
    assert counts.rows == {"rejected": 2}
    gated.let_go(2)
    first.result(PATIENCE_SECONDS)
    assert_answers(second.result(PATIENCE_SECONDS), [1, 2])


@pytest.mark.parametrize("size", [0, 21])
def test_a_request_that_can_never_wait_is_invalid(size: int) -> None:
    batcher = Batcher(Engine(engine, max_batch_size=4), max_queue_size=20)
    with pytest.raises(InvalidRequestError, match="1 to 20 images"):
        batcher.submit(rows_of(range(size)))


def test_a_failed_batch_reaches_each_waiter_and_the_next_one_goes_on(
    pool: ThreadPoolExecutor,
) -> None:
    gated = GatedEngine()
    batcher = Batcher(Engine(gated, max_batch_size=2), max_queue_size=20)
    first = pool.submit(batcher.submit, rows_of([0]))
    gated.await_start()
    pair = [submit_and_await(pool, batcher, [index]) for index in (1, 2)]
    behind = submit_and_await(pool, batcher, [3])
    gated.let_go()
    gated.await_start()
    gated.failure = RuntimeError("CUDA error at 0x7f00")
    gated.let_go()
    for future in pair:
        with pytest.raises(InferenceFailedError) as caught:
            future.result(PATIENCE_SECONDS)
        assert caught.value.__cause__ is gated.failure
        assert "CUDA" not in str(caught.value)
    gated.await_start()
    gated.failure = None
    gated.let_go()
    assert_answers(first.result(PATIENCE_SECONDS), [0])
    assert_answers(behind.result(PATIENCE_SECONDS), [3])


@pytest.mark.parametrize("ids", [[1], [1, 2, 3, 4, 5, 6]])
def test_an_answer_of_another_number_of_rows_is_a_failure(ids: list[int]) -> None:
    batcher = Batcher(Engine(lambda rows: engine(rows[1:]), max_batch_size=4), max_queue_size=20)
    with pytest.raises(InferenceFailedError) as caught:
        batcher.submit(rows_of(ids))
    assert "rows" in str(caught.value.__cause__)


def test_concurrent_executions_run_side_by_side_and_no_more(pool: ThreadPoolExecutor) -> None:
    gated = GatedEngine()
    batcher = Batcher(
        Engine(gated, max_batch_size=4, max_concurrent_executions=2), max_queue_size=20
    )
    futures = []
    for index in (0, 1):
        futures.append(pool.submit(batcher.submit, rows_of([index])))
        gated.await_start()
    futures.append(submit_and_await(pool, batcher, [2]))
    assert len(gated.batches) == 2
    gated.let_go(3)
    for index, future in enumerate(futures):
        assert_answers(future.result(PATIENCE_SECONDS), [index])


def test_with_a_queue_delay_rows_wait_for_others(pool: ThreadPoolExecutor) -> None:
    gated = GatedEngine()
    gated.let_go(10)
    batcher = Batcher(
        Engine(gated, max_batch_size=3),
        max_queue_size=20,
        max_queue_delay_seconds=PATIENCE_SECONDS,
    )
    futures = [submit_and_await(pool, batcher, [index]) for index in (0, 1)]
    futures.append(pool.submit(batcher.submit, rows_of([2])))
    for index, future in enumerate(futures):
        assert_answers(future.result(PATIENCE_SECONDS), [index])
    assert gated.batches == [[0, 1, 2]]


def test_the_queue_delay_ends_by_itself() -> None:
    batcher = Batcher(
        Engine(engine, max_batch_size=3), max_queue_size=9, max_queue_delay_seconds=0.01
    )
    result = batcher.submit(rows_of([5]))
    assert_answers(result, [5])
    assert result.queue_seconds >= 0.01
