"""Warm-up: every batch size runs before the first caller, and its cost is measured."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from runtime.session import Session
from service.batching.costs import BatchCosts

_RUNS = 5
_LONGEST_MEASUREMENT_SECONDS = 0.1


@dataclass(frozen=True)
class BatchCost:
    """What a batch costs on this machine.

    Attributes:
        rows: Rows of the batch.
        seconds: How long it takes.
    """

    rows: int
    seconds: float

    @property
    def images_per_second(self) -> float:
        """Rows that batches of this size answer in a second."""
        return self.rows / self.seconds


def warm_up(session: Session, image_shape: tuple[int, int, int]) -> tuple[BatchCost, ...]:
    """Run every bucket, so that no caller meets a cold size.

    Args:
        session: The session.
        image_shape: Height, width and channels of its input.

    Returns:
        The cost of each bucket, smallest first: that of its fastest run, since others that are
        served meanwhile only make it slower.
    """
    costs = []
    for rows in session.buckets:
        images = np.random.default_rng(rows).integers(0, 256, (rows, *image_shape), dtype=np.uint8)
        costs.append(BatchCost(rows, min(_durations(session, images))))
    return tuple(costs)


def seeded_costs(costs: tuple[BatchCost, ...]) -> BatchCosts:
    """What admission control knows before the first request."""
    seeded = BatchCosts()
    for cost in costs:
        seeded.observe(cost.rows, cost.seconds)
    return seeded


def _durations(session: Session, images: np.ndarray) -> Iterator[float]:
    """Durations of a few runs after the cold one, which must not hold up a start for long."""
    with session.turn():
        session.run(images)
    began = time.perf_counter()
    for _ in range(_RUNS):
        with session.turn():
            started = time.perf_counter()
            session.run(images)
            now = time.perf_counter()
        yield now - started
        if now - began > _LONGEST_MEASUREMENT_SECONDS:
            return
