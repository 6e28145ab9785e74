"""Warm-up: runs every batch size before the first request, and measures its cost."""

import math
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from convd.runtime.session import Session
from convd.service.batching.engine import BatchCosts, Engine

_RUNS = 5
_LEAST_RUNS_OF_A_COMPARISON = 3
_LONGEST_MEASUREMENT_SECONDS = 0.1
_LONGEST_COMPARISON_SECONDS = 0.3
_LONGEST_BATCH_SECONDS = 0.1
_TELLING_BATCH_SECONDS = 0.03
"""A batch that takes so long tells what larger ones take: rows cost alike from there on."""

_LEAST_SIZES = 2
"""A fixed cost and a cost for each row are two unknowns."""

SMALL_BATCH_SECONDS = 2e-3
"""A batch that takes less computing time than this runs without asking for cores: to wait for its
turn behind a batch of a large network would cost it many times its own length."""


@dataclass(frozen=True)
class BatchCost:
    """The measured cost of a batch on this machine.

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
        """Throughput with batches of this size."""
        return self.executions * self.rows / self.seconds


def warm_up(
    session: Session, image_shape: tuple[int, int, int], *, executions: int = 1
) -> tuple[BatchCost, ...]:
    """Run batches of each size before the first request does, and measure them.

    A network of some size would need many seconds for its largest batches. Where a batch's first
    run is as fast as the next one, those are left out whose cost follows from smaller ones.

    Args:
        session: The session.
        image_shape: Height, width and channels of its input.
        executions: How many batches to run at the same time.

    Returns:
        The cost of each bucket that was run, smallest first. It is the time of the fastest run,
        since other work on the machine can only slow a run down.
    """
    costs: list[BatchCost] = []
    for rows in session.buckets:
        if (
            not session.provider.prepares_batch_sizes
            and len(costs) >= _LEAST_SIZES
            and costs[-1].seconds > _TELLING_BATCH_SECONDS
        ):
            break
        batches = _ConcurrentBatches(session, _images(rows, image_shape), executions)
        (seconds,) = _fastest([batches], _LONGEST_MEASUREMENT_SECONDS)
        costs.append(BatchCost(rows, seconds, executions))
    return tuple(costs)


def relative_rate(
    instances: Session,
    session: Session,
    costs: tuple[BatchCost, ...],
    image_shape: tuple[int, int, int],
) -> float:
    """Compare all instances at once with one batch of as many rows on all cores.

    Args:
        instances: A session with a thread for each of its executions.
        session: The same network on all cores.
        costs: The cost of a batch of each size there.
        image_shape: Height, width and channels of its input.

    Returns:
        The rate of the instances divided by the session's. They run alternately, so that other work
        on the machine disturbs both alike.
    """
    executions = instances.max_concurrent_executions
    row_seconds = costs[-1].seconds / costs[-1].rows
    rows = max(
        rows
        for rows in instances.buckets
        if rows == 1 or rows * executions * row_seconds < _LONGEST_BATCH_SECONDS
    )
    contestants = [
        _ConcurrentBatches(instances, _images(rows, image_shape), executions),
        _ConcurrentBatches(session, _images(rows * executions, image_shape)),
    ]
    seconds, seconds_on_all_cores = _fastest(
        contestants, _LONGEST_COMPARISON_SECONDS, _LEAST_RUNS_OF_A_COMPARISON
    )
    return seconds_on_all_cores / seconds


def engine_of(session: Session, costs: tuple[BatchCost, ...], max_batch_size: int) -> Engine:
    """Make the batcher's engine of a session.

    Args:
        session: The session.
        costs: Measured by the warm-up, so that admission control works from the first request on.
        max_batch_size: Maximum rows in one batch.
    """
    seeded = BatchCosts()
    for cost in costs:
        seeded.observe(cost.rows, cost.seconds)
    small = (cost.rows for cost in costs if cost.seconds * session.threads < SMALL_BATCH_SECONDS)
    return Engine(
        session.run,
        small_rows=max(small, default=0),
        max_batch_size=max_batch_size,
        max_concurrent_executions=session.max_concurrent_executions,
        costs=seeded,
        cores=session.cores,
    )


@dataclass(frozen=True)
class _ConcurrentBatches:
    """Equal batches that run at the same time."""

    session: Session
    images: NDArray[np.uint8]
    executions: int = 1

    def seconds(self, pool: ThreadPoolExecutor) -> float:
        run = partial(self.session.run, self.images)
        with self.session.turn(self.executions):
            started = time.perf_counter()
            others = [pool.submit(run) for _ in range(1, self.executions)]
            run()
            for other in others:
                other.result()
            return time.perf_counter() - started


def _images(rows: int, shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    return np.random.default_rng(rows).integers(0, 256, (rows, *shape), dtype=np.uint8)


def _fastest(
    contestants: Sequence[_ConcurrentBatches], longest_seconds: float, least_runs: int = 1
) -> list[float]:
    """Time the fastest of a few alternating runs of each, after a cold run of each."""
    fastest = [math.inf] * len(contestants)
    with ThreadPoolExecutor(max(batches.executions for batches in contestants)) as pool:
        for batches in contestants:
            batches.seconds(pool)
        began = time.perf_counter()
        for run in range(1, _RUNS + 1):
            for index, batches in enumerate(contestants):
                fastest[index] = min(fastest[index], batches.seconds(pool))
            if run >= least_runs and time.perf_counter() - began > longest_seconds:
                break
    return fastest
