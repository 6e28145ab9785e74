"""What tests of the batcher share: an engine that the test holds, and threads that wait for it."""

import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from convd.service.batching.batcher import Batcher, BatchObserver
from convd.service.batching.engine import Outputs, Rows
from convd.service.batching.entry import BatchedResult, Priority
from convd.service.cancellation import Cancellation
from tests.service.batching.simulation import engine, ids_of, rows_of

PATIENCE_SECONDS = 30.0


class GatedEngine:
    """An engine that waits in each batch until the test lets it go on."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.arrays: list[Rows] = []
        self.failure: BaseException | None = None
        self._started = threading.Semaphore(0)
        self._gate = threading.Semaphore(0)

    def __call__(self, rows: Rows) -> Outputs:
        self.batches.append(ids_of(rows))
        self.arrays.append(rows)
        self._started.release()
        assert self._gate.acquire(timeout=PATIENCE_SECONDS)
        if self.failure is not None:
            raise self.failure
        return engine(rows)

    def await_start(self) -> None:
        assert self._started.acquire(timeout=PATIENCE_SECONDS)

    def let_go(self, batches: int = 1) -> None:
        self._gate.release(batches)


class Counts(BatchObserver):
    def __init__(self) -> None:
        self.rows: Counter[str] = Counter()
        self.batches: list[int] = []

    def batch_executed(self, rows: int, inference_seconds: float) -> None:
        assert inference_seconds >= 0
        self.batches.append(rows)

    def rejected(self, rows: int) -> None:
        self.rows["rejected"] += rows

    def expired(self, rows: int) -> None:
        self.rows["expired"] += rows

    def cancelled(self, rows: int) -> None:
        self.rows["cancelled"] += rows


def eventually(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < end, "this should have happened by now"
        time.sleep(0.001)


def submit_and_await(
    pool: ThreadPoolExecutor,
    batcher: Batcher,
    ids: list[int],
    *,
    deadline: float | None = None,
    priority: Priority = Priority.NORMAL,
    cancellation: Cancellation | None = None,
) -> "Future[BatchedResult]":
    """Submit rows in a thread of their own, and return once they wait in the queue."""
    before = batcher.waiting_rows
    future = pool.submit(
        batcher.submit,
        rows_of(ids),
        deadline=deadline,
        priority=priority,
        cancellation=cancellation,
    )
    eventually(lambda: batcher.waiting_rows == before + len(ids))
    return future


def assert_answers(result: BatchedResult, ids: list[int]) -> None:
    np.testing.assert_array_equal(result.outputs[0][:, 0], ids)
    np.testing.assert_array_equal(result.outputs[1][:, 0], 2 * np.array(ids))
