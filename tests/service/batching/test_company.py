"""While requests come from several sides, a batch gives way once before it is formed."""

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from convd.service.batching.batcher import Batcher
from convd.service.batching.engine import Engine
from convd.service.batching.entry import BatchedResult
from tests.service.batching.gated import GatedEngine, assert_answers, submit_and_await
from tests.service.batching.simulation import rows_of


class GivingWay:
    """Takes the place of the system call; the test says what others do meanwhile."""

    def __init__(self) -> None:
        self.times = 0
        self.meanwhile: list[Callable[[], None]] = []

    def __call__(self) -> None:
        self.times += 1
        if self.meanwhile:
            self.meanwhile.pop(0)()


@pytest.fixture
def giving_way(monkeypatch: pytest.MonkeyPatch) -> GivingWay:
    giving_way = GivingWay()
    monkeypatch.setattr(os, "sched_yield", giving_way)
    return giving_way


def test_who_comes_while_a_batch_gives_way_is_in_it(
    pool: ThreadPoolExecutor, giving_way: GivingWay
) -> None:
    engine = GatedEngine()
    batcher = Batcher(Engine(engine, max_batch_size=8), max_queue_size=8)
    late: list[Future[BatchedResult]] = []

    def arrive(index: int) -> Callable[[], None]:
        return lambda: late.append(submit_and_await(pool, batcher, [index]))

    first = pool.submit(batcher.submit, rows_of([0]))
    engine.await_start()
    second = submit_and_await(pool, batcher, [1])
    assert giving_way.times == 0, "nothing tells that others are about to come"
    giving_way.meanwhile = [arrive(2)]
    engine.let_go()
    engine.await_start()
    assert engine.batches[1] == [1, 2]
    engine.let_go()
    assert_answers(first.result(), [0])
    assert_answers(second.result(), [1])
    assert_answers(late[0].result(), [2])

    # It was a batch of several: who finds the engine idle gives way as well.
    giving_way.meanwhile = [arrive(4)]
    third = pool.submit(batcher.submit, rows_of([3]))
    engine.await_start()
    assert engine.batches[2] == [3, 4]
    engine.let_go()
    assert_answers(third.result(), [3])
    assert_answers(late[1].result(), [4])
    assert giving_way.times == 2


def test_who_is_alone_soon_gives_way_no_more(
    pool: ThreadPoolExecutor, giving_way: GivingWay
) -> None:
    engine = GatedEngine()
    batcher = Batcher(Engine(engine, max_batch_size=8), max_queue_size=8)
    first = pool.submit(batcher.submit, rows_of([0]))
    engine.await_start()
    second = submit_and_await(pool, batcher, [1])
    engine.let_go(10)
    first.result()
    second.result()
    assert giving_way.times == 1
    for index in range(2, 6):
        assert_answers(batcher.submit(rows_of([index])), [index])
    assert giving_way.times == 1, "the batch of one has shown that nobody else comes"


def test_in_company_a_request_that_can_never_wait_still_runs(
    pool: ThreadPoolExecutor,
    giving_way: GivingWay,  # noqa: ARG001
) -> None:
    engine = GatedEngine()
    batcher = Batcher(Engine(engine, max_batch_size=8), max_queue_size=2)
    first = pool.submit(batcher.submit, rows_of([0]))
    engine.await_start()
    others = [submit_and_await(pool, batcher, [index]) for index in (1, 2)]
    engine.let_go(10)
    for future in (first, *others):
        future.result()
    assert_answers(batcher.submit(rows_of([3, 4, 5])), [3, 4, 5])
