"""Batches leave nothing to the garbage collector, which comes rarely for that reason."""

import gc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from convd.service.batching.batcher import Batcher
from convd.service.batching.engine import Engine
from tests.service.batching.gated import GatedEngine, submit_and_await
from tests.service.batching.simulation import rows_of


@pytest.fixture
def garbage() -> Iterator[list[object]]:
    """What the collector finds, after this."""
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    yield gc.garbage
    gc.set_debug(0)
    gc.garbage.clear()
    gc.enable()


def run_together(pool: ThreadPoolExecutor) -> list[int]:
    engine = GatedEngine()
    batcher = Batcher(Engine(engine, max_batch_size=4), max_queue_size=20)
    first = pool.submit(batcher.submit, rows_of([0]))
    engine.await_start()
    others = [submit_and_await(pool, batcher, [index]) for index in range(1, 9)]
    engine.let_go(20)
    for future in (first, *others):
        future.result()
    batcher.close()
    return [len(batch) for batch in engine.batches]


def test_a_batch_of_several_requests_leaves_no_garbage(
    pool: ThreadPoolExecutor, garbage: list[object]
) -> None:
    assert run_together(pool) == [1, 4, 4]
    gc.collect()
    assert [one for one in garbage if type(one).__module__.startswith("convd.service.")] == []
