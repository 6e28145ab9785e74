"""Warm-up: every batch size runs before the first caller, and its cost is measured."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from runtime.session import Session
from service.batching.costs import BatchCosts
from service.batching.engine import Engine

_RUNS = 5
_LONGEST_MEASUREMENT_SECONDS = 0.1


@dataclass(frozen=True)
class BatchCost:
    """What a batch costs on this machine.

    Attributes:
        rows: Rows of the batch.
        seconds: How long it takes.
        executions: How many such batches ran at the same time.
    """

    rows: int
    seconds: float
    executions: int = 1

    @property
    def images_per_second(self) -> float:
        """Rows that batches of this size answer in a second."""
        return self.executions * self.rows / self.seconds


def warm_up(
    session: Session, image_shape: tuple[int, int, int], *, executions: int = 1
) -> tuple[BatchCost, ...]:
    """Run every bucket, so that no caller meets a cold size.

    Args:
        session: The session.
        image_shape: Height, width and channels of its input.
        executions: How many batches to run at the same time.

    Returns:
        The cost of each bucket, smallest first: that of its fastest run, since others that are
        served meanwhile only make it slower.
    """
    costs = []
    with ThreadPoolExecutor(executions) as pool:
        for rows in session.buckets:
            shape = (rows, *image_shape)
            images = np.random.default_rng(rows).integers(0, 256, shape, dtype=np.uint8)
            seconds = min(_durations(session, images, pool, executions))
            costs.append(BatchCost(rows, seconds, executions))
    return tuple(costs)


def engine_of(session: Session, costs: tuple[BatchCost, ...], max_batch_size: int) -> Engine:
    """The session as the batcher uses it.

    Args:
        session: The session.
        costs: What warm-up has measured: admission control knows it before the first request.
        max_batch_size: Most rows of one batch.
    """
    seeded = BatchCosts()
    for cost in costs:
        seeded.observe(cost.rows, cost.seconds)
    return Engine(
        session.run,
        max_batch_size=max_batch_size,
        max_concurrent_executions=session.max_concurrent_executions,
        costs=seeded,
        cores=session.cores,
    )


def _durations(
    session: Session, images: np.ndarray, pool: ThreadPoolExecutor, executions: int
) -> Iterator[float]:
    """Durations of a few runs after the cold one, which must not hold up a start for long."""
    began = time.perf_counter()
    for attempt in range(1 + _RUNS):
        with session.turn(executions):
            started = time.perf_counter()
            others = [pool.submit(session.run, images) for _ in range(executions - 1)]
            session.run(images)
            for other in others:
                other.result()
            now = time.perf_counter()
        if attempt:
            yield now - started
            if now - began > _LONGEST_MEASUREMENT_SECONDS:
                return
        else:
            began = now
