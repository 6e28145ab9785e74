"""Threads are given to a network that gains from them, by a clock that only the networks move."""

from collections.abc import Callable
from contextlib import nullcontext

import numpy as np
import pytest
from numpy.typing import NDArray

from convd.runtime import thread_count
from convd.runtime.thread_count import Run, is_small, threads_pay

SHAPE = (2, 2, 3)


class Clock:
    """Time that passes only while a network runs."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.rows: list[int] = []

    def perf_counter(self) -> float:
        return self.seconds

    def network(self, seconds: Callable[[int], float]) -> Run:
        def run(images: NDArray[np.uint8]) -> None:
            self.rows.append(len(images))
            self.seconds += seconds(len(images))

        return run


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(thread_count, "time", made)
    return made


@pytest.mark.parametrize(("seconds", "small"), [(0.0009, True), (0.001, False), (0.5, False)])
def test_a_network_is_small_by_the_time_of_one_picture(
    clock: Clock, seconds: float, small: bool
) -> None:
    assert is_small(clock.network(lambda rows: rows * seconds), nullcontext, SHAPE) is small
    assert set(clock.rows) == {1}


def test_the_cold_first_run_does_not_count(clock: Clock) -> None:
    times = iter([5.0, 0.0001, 0.0001, 0.0001])
    assert is_small(clock.network(lambda _: next(times)), nullcontext, SHAPE)


@pytest.mark.parametrize(
    ("what", "all_threads", "pay"),
    [
        ("the second thread wakes up too late", lambda rows: 20e-6 + 10e-6 * rows, False),
        ("batches are halved", lambda rows: 100e-6 + 200e-6 * rows, True),
        ("batches gain, and lone pictures lose", lambda rows: 500e-6 + 200e-6 * rows, False),
        ("all rows cost what they cost on one thread", lambda rows: 400e-6 * rows, False),
    ],
)
def test_threads_pay_by_batches_and_by_lone_pictures(
    clock: Clock, what: str, all_threads: Callable[[int], float], pay: bool
) -> None:
    one = 10e-6 if what.startswith("the second") else 400e-6
    on_all, on_one = clock.network(all_threads), clock.network(lambda rows: one * rows)
    assert threads_pay(on_all, on_one, nullcontext, SHAPE, 64) is pay


@pytest.mark.parametrize(("max_batch_size", "rows"), [(8, 8), (1024, 32)])
def test_the_measured_batch_is_bounded(clock: Clock, max_batch_size: int, rows: int) -> None:
    run = clock.network(lambda rows: rows * 1e-4)
    threads_pay(run, run, nullcontext, SHAPE, max_batch_size)
    assert max(clock.rows) == rows
