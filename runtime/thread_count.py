"""Whether a network gains from more than one thread: measured, where it is small."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager

import numpy as np
from numpy.typing import NDArray

SMALL_INFERENCE_SECONDS = 1e-3
"""A network that takes at least this long for one picture gains from every core."""

LEAST_BATCH_GAIN = 1.3
"""A batch must be so many times as fast on all threads, or the cores are worth more to others."""

LEAST_LONE_GAIN = 0.9
"""Minimum rate of lone pictures on all threads, relative to one thread."""

_BATCH_ROWS = 32
_ROUNDS = 6

Run = Callable[[NDArray[np.uint8]], object]
Turn = Callable[[], AbstractContextManager[None]]


def is_small(run: Run, turn: Turn, image_shape: Sequence[int]) -> bool:
    """Whether one picture takes less than `SMALL_INFERENCE_SECONDS` on all threads.

    Args:
        run: Runs the network.
        turn: Holds the cores that a run needs.
        image_shape: Height, width and channels of its input.
    """
    rounds = _rounds([run], turn, _images(1, image_shape))
    return any(seconds < SMALL_INFERENCE_SECONDS for (seconds,) in rounds)


def threads_pay(
    all_threads: Run,
    one_thread: Run,
    turn: Turn,
    image_shape: Sequence[int],
    max_batch_size: int,
) -> bool:
    """Whether a small network runs batches faster on all threads, and lone pictures no slower.

    Most small networks do neither: an operator ends before the second thread wakes up. An int8
    network does a few times as much work in its millisecond, which threads can divide.

    Args:
        all_threads: Runs the network on all threads.
        one_thread: Runs it on one.
        turn: Holds the cores that a run on all threads needs.
        image_shape: Height, width and channels of its input.
        max_batch_size: Maximum rows of a batch.
    """
    batch = min(max_batch_size, _BATCH_ROWS)
    for rows, least_gain in ((1, LEAST_LONE_GAIN), (batch, LEAST_BATCH_GAIN)):
        rounds = _rounds([all_threads, one_thread], turn, _images(rows, image_shape))
        on_all, on_one = map(min, zip(*rounds, strict=True))
        if on_one < least_gain * on_all:
            return False
    return True


def _rounds(runs: Sequence[Run], turn: Turn, images: NDArray[np.uint8]) -> Iterator[list[float]]:
    """Time a few runs of each, in seconds and in turns, after a cold run of each."""
    with turn():
        for run in runs:
            run(images)
    for _ in range(_ROUNDS):
        with turn():
            yield [_seconds(run, images) for run in runs]


def _seconds(run: Run, images: NDArray[np.uint8]) -> float:
    started = time.perf_counter()
    run(images)
    return time.perf_counter() - started


def _images(rows: int, image_shape: Sequence[int]) -> NDArray[np.uint8]:
    return np.zeros((rows, *image_shape), np.uint8)
