"""Many threads at once, at random."""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from convd.runtime.cores import CoreBudget, CoreShare
from convd.service.batching.batcher import Batcher
from convd.service.batching.engine import Engine, Outputs, Rows
from convd.service.batching.entry import REQUEST_PRIORITIES
from convd.service.cancellation import Cancellation
from convd.service.errors import (
    DeadlineExceededError,
    ServiceError,
)
from tests.service.batching.gated import (
    PATIENCE_SECONDS,
    Counts,
    assert_answers,
    eventually,
)
from tests.service.batching.simulation import engine, ids_of, rows_of


def test_two_hundred_short_deadlines_against_a_slow_engine(pool: ThreadPoolExecutor) -> None:
    """Each ends expired or answered, and the engine runs no row of one that had ended before."""
    ended: set[int] = set()
    run_in_vain: list[int] = []

    def run(rows: Rows) -> Outputs:
        run_in_vain.extend(set(ids_of(rows)) & ended)
        time.sleep(0.1)
        return engine(rows)

    counts = Counts()
    batcher = Batcher(Engine(run, max_batch_size=16), max_queue_size=400, observer=counts)
    outcomes: Counter[str] = Counter()

    def call(index: int) -> None:
        try:
            assert_answers(
                batcher.submit(rows_of([index]), deadline=time.monotonic() + 0.05), [index]
            )
            outcomes["answered"] += 1
        except DeadlineExceededError:
            outcomes["expired"] += 1
        ended.add(index)

    for future in [pool.submit(call, index) for index in range(200)]:
        future.result(PATIENCE_SECONDS)
    assert sum(outcomes.values()) == 200
    assert not run_in_vain
    assert counts.rows["expired"] + counts.rows["rejected"] == outcomes["expired"]


@pytest.mark.parametrize("max_queue_delay_seconds", [0.0, 0.002])
@pytest.mark.parametrize("max_concurrent_executions", [1, 3])
def test_nothing_is_lost_between_many_threads(
    max_concurrent_executions: int, max_queue_delay_seconds: float
) -> None:
    """Splits, failures, deadlines and cancellations at random moments, all at once."""
    chance = random.Random(max_concurrent_executions)  # noqa: S311

    def run(rows: Rows) -> Outputs:
        time.sleep(chance.choice([0.0, 0.0, 0.0005, 0.002]))
        if chance.random() < 0.05:
            raise RuntimeError("failed at random")
        return engine(rows)

    batcher = Batcher(
        Engine(run, max_batch_size=8, max_concurrent_executions=max_concurrent_executions),
        max_queue_size=60,
        max_queue_delay_seconds=max_queue_delay_seconds,
    )
    outcomes: Counter[str] = Counter()
    running: list[tuple[float, Cancellation]] = []
    stop = threading.Event()

    def cancel_at_random() -> None:
        while not stop.wait(0.0005):
            now = time.monotonic()
            for moment, cancellation in list(running):
                if moment <= now:
                    cancellation.cancel()
                    running.remove((moment, cancellation))

    def call(thread: int) -> None:
        draw = random.Random(thread)  # noqa: S311
        for index in range(80):
            first = thread * 10_000 + index * 100
            ids = list(range(first, first + draw.choice([1, 1, 1, 2, 5, 20])))
            now = time.monotonic()
            cancellation = Cancellation()
            if draw.random() < 0.3:
                running.append((now + draw.random() * 0.005, cancellation))
            try:
                result = batcher.submit(
                    rows_of(ids),
                    deadline=now + draw.random() * 0.02 if draw.random() < 0.5 else None,
                    priority=draw.choice(REQUEST_PRIORITIES),
                    cancellation=cancellation,
                )
                assert_answers(result, ids)
                outcomes["answered"] += 1
            except ServiceError as error:
                outcomes[type(error).__name__] += 1

    with ThreadPoolExecutor(13) as threads:
        canceller = threads.submit(cancel_at_random)
        for future in [threads.submit(call, thread) for thread in range(12)]:
            future.result(PATIENCE_SECONDS)
        stop.set()
        canceller.result(PATIENCE_SECONDS)
    assert sum(outcomes.values()) == 12 * 80
    assert outcomes["answered"]
    assert batcher.waiting_rows == 0
    assert batcher.drain(PATIENCE_SECONDS)


def test_many_threads_and_models_never_exceed_the_cores() -> None:
    """Deadlines, cancellations and failures at random moments, in four models on two cores."""
    budget = CoreBudget(2)
    lock = threading.Lock()
    busy, most, answered = 0, 0, 0

    def engine_of(threads: int) -> Callable[[Rows], Outputs]:
        chance = random.Random(threads)  # noqa: S311

        def run(rows: Rows) -> Outputs:
            nonlocal busy, most
            with lock:
                busy += threads
                most = max(most, busy)
            time.sleep(chance.choice([0.0, 0.0005, 0.002]))
            with lock:
                busy -= threads
            if chance.random() < 0.05:
                raise RuntimeError("failed at random")
            return engine(rows)

        return run

    batchers = [
        Batcher(
            Engine(
                engine_of(threads),
                max_batch_size=4,
                max_concurrent_executions=executions,
                cores=CoreShare(budget, threads),
            ),
            max_queue_size=60,
            max_queue_delay_seconds=delay,
        )
        for threads, executions, delay in ((1, 2, 0.0), (2, 1, 0.0), (1, 1, 0.001))
    ]
    all_cores = Engine(engine_of(2), max_batch_size=4, cores=CoreShare(budget, 2))
    instances = Engine(
        engine_of(1), max_batch_size=2, max_concurrent_executions=2, cores=CoreShare(budget, 1)
    )
    batchers.append(Batcher(all_cores, instances, max_queue_size=60))

    def call(thread: int) -> None:
        nonlocal answered
        draw = random.Random(thread)  # noqa: S311
        for index in range(60):
            ids = [thread * 1000 + index * 10 + row for row in range(draw.choice([1, 1, 2, 7]))]
            cancellation = Cancellation()
            timer = threading.Timer(draw.random() * 0.01, cancellation.cancel)
            if draw.random() < 0.2:
                timer.start()
            deadline = time.monotonic() + draw.random() * 0.03 if draw.random() < 0.4 else None
            try:
                result = draw.choice(batchers).submit(
                    rows_of(ids), deadline=deadline, cancellation=cancellation
                )
            except ServiceError:
                continue
            assert_answers(result, ids)
            with lock:
                answered += 1

    with ThreadPoolExecutor(12) as threads:
        for future in [threads.submit(call, thread) for thread in range(12)]:
            future.result(PATIENCE_SECONDS)
    assert all(batcher.drain(PATIENCE_SECONDS) for batcher in batchers)
    eventually(lambda: budget.busy == budget.running == 0)
    assert answered
    assert most <= 2
