"""Callers that leave before their answer, and batchers that come to their end."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from convd.service.batching.batcher import Batcher
from convd.service.batching.engine import Engine
from convd.service.batching.entry import Entry, EntryState
from convd.service.cancellation import Cancellation
from convd.service.errors import (
    CallerGoneError,
    DeadlineExceededError,
    InferenceFailedError,
    UnavailableError,
)
from tests.service.batching.gated import (
    PATIENCE_SECONDS,
    Counts,
    GatedEngine,
    assert_answers,
    submit_and_await,
)
from tests.service.batching.simulation import engine, rows_of


def test_a_cancelled_waiter_wakes_at_once_and_never_runs(pool: ThreadPoolExecutor) -> None:
    gated, counts = GatedEngine(), Counts()
    batcher = Batcher(Engine(gated, max_batch_size=8), max_queue_size=20, observer=counts)
    first = pool.submit(batcher.submit, rows_of([0]))
    gated.await_start()
    cancellation = Cancellation()
    gone = submit_and_await(pool, batcher, [1, 2], cancellation=cancellation)
    other = submit_and_await(pool, batcher, [3])
    cancellation.cancel()
    with pytest.raises(CallerGoneError):
        gone.result(PATIENCE_SECONDS)
    assert batcher.waiting_rows == 1
    gated.let_go(2)
    first.result(PATIENCE_SECONDS)
    assert_answers(other.result(PATIENCE_SECONDS), [3])
    assert gated.batches == [[0], [3]]
    assert counts.rows == {"cancelled": 2}


def test_cancelled_before_submission_means_never_run() -> None:
    cancellation = Cancellation()
    cancellation.cancel()
    gated = GatedEngine()
    with pytest.raises(CallerGoneError):
        Batcher(Engine(gated, max_batch_size=8), max_queue_size=20).submit(
            rows_of([0]), cancellation=cancellation
        )
    assert not gated.batches


def test_a_caller_that_goes_while_its_rows_run_is_released_at_once(
    pool: ThreadPoolExecutor,
) -> None:
    gated, counts, cancellation = GatedEngine(), Counts(), Cancellation()
    batcher = Batcher(Engine(gated, max_batch_size=8), max_queue_size=20, observer=counts)
    first = pool.submit(batcher.submit, rows_of([0]), cancellation=cancellation)
    gated.await_start()
    cancellation.cancel()
    with pytest.raises(CallerGoneError):
        first.result(PATIENCE_SECONDS)
    assert counts.rows == {"cancelled": 1}
    gated.let_go()
    assert batcher.drain(PATIENCE_SECONDS)


def test_a_deadline_that_passes_while_the_rows_run_releases_the_caller(
    pool: ThreadPoolExecutor,
) -> None:
    gated, counts = GatedEngine(), Counts()
    batcher = Batcher(Engine(gated, max_batch_size=8), max_queue_size=20, observer=counts)
    late = pool.submit(batcher.submit, rows_of([0]), deadline=time.monotonic() + 0.02)
    gated.await_start()
    with pytest.raises(DeadlineExceededError):
        late.result(PATIENCE_SECONDS)
    assert counts.rows == {"expired": 1}
    gated.let_go()
    assert batcher.drain(PATIENCE_SECONDS)


def test_a_waiter_leaves_at_its_deadline_and_never_runs(pool: ThreadPoolExecutor) -> None:
    gated, counts = GatedEngine(), Counts()
    batcher = Batcher(Engine(gated, max_batch_size=8), max_queue_size=20, observer=counts)
    first = pool.submit(batcher.submit, rows_of([0]))
    gated.await_start()
    late = pool.submit(batcher.submit, rows_of([1]), deadline=time.monotonic() + 0.02)
    with pytest.raises(DeadlineExceededError):
        late.result(PATIENCE_SECONDS)
    assert batcher.waiting_rows == 0
    gated.let_go()
    first.result(PATIENCE_SECONDS)
    assert gated.batches == [[0]]
    assert counts.rows == {"expired": 1}


def test_a_deadline_in_the_past_never_runs() -> None:
    gated = GatedEngine()
    with pytest.raises(DeadlineExceededError):
        Batcher(Engine(gated, max_batch_size=8), max_queue_size=20).submit(
            rows_of([0]), deadline=time.monotonic()
        )
    assert not gated.batches


@pytest.mark.parametrize("deadline", [None, 1e12])
def test_no_deadline_and_one_far_away_wait_for_the_answer(
    pool: ThreadPoolExecutor, deadline: float | None
) -> None:
    gated = GatedEngine()
    batcher = Batcher(Engine(gated, max_batch_size=8), max_queue_size=20)
    first = pool.submit(batcher.submit, rows_of([0]))
    gated.await_start()
    second = submit_and_await(pool, batcher, [1], deadline=deadline)
    gated.let_go(2)
    first.result(PATIENCE_SECONDS)
    assert_answers(second.result(PATIENCE_SECONDS), [1])


def test_whatever_the_engine_raises_the_runner_goes_on(pool: ThreadPoolExecutor) -> None:
    gated = GatedEngine()
    batcher = Batcher(Engine(gated, max_batch_size=1), max_queue_size=20)
    first = pool.submit(batcher.submit, rows_of([0]))
    gated.await_start()
    second = submit_and_await(pool, batcher, [1])
    gated.failure = SystemExit()
    gated.let_go()
    with pytest.raises(InferenceFailedError) as caught:
        first.result(PATIENCE_SECONDS)
    assert isinstance(caught.value.__cause__, SystemExit)
    gated.await_start()
    gated.failure = None
    gated.let_go()
    assert_answers(second.result(PATIENCE_SECONDS), [1])


def test_a_caller_that_is_interrupted_takes_its_rows_along(
    pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    gated = GatedEngine()
    batcher = Batcher(Engine(gated, max_batch_size=1), max_queue_size=20)
    first = pool.submit(batcher.submit, rows_of([0]))
    gated.await_start()

    def interrupted(_: Batcher, entry: Entry) -> None:
        assert entry.state is EntryState.WAITING
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Batcher, "_wait", interrupted)
        with pytest.raises(KeyboardInterrupt):
            batcher.submit(rows_of([1]), deadline=time.monotonic() + PATIENCE_SECONDS)
    assert batcher.waiting_rows == 0
    gated.let_go()
    assert_answers(first.result(PATIENCE_SECONDS), [0])
    assert gated.batches == [[0]]


def test_the_first_of_a_gathering_batch_can_be_cancelled(pool: ThreadPoolExecutor) -> None:
    batcher = Batcher(
        Engine(engine, max_batch_size=3),
        max_queue_size=9,
        max_queue_delay_seconds=PATIENCE_SECONDS,
    )
    cancellation = Cancellation()
    gathering = submit_and_await(pool, batcher, [0], cancellation=cancellation)
    other = submit_and_await(pool, batcher, [1])
    cancellation.cancel()
    with pytest.raises(CallerGoneError):
        gathering.result(PATIENCE_SECONDS)
    assert batcher.drain(PATIENCE_SECONDS)
    assert_answers(other.result(PATIENCE_SECONDS), [1])


def test_drain_finishes_what_was_accepted_and_refuses_the_rest(pool: ThreadPoolExecutor) -> None:
    gated = GatedEngine()
    batcher = Batcher(Engine(gated, max_batch_size=4), max_queue_size=20)
    accepted = [pool.submit(batcher.submit, rows_of([0]))]
    gated.await_start()
    accepted.append(submit_and_await(pool, batcher, [1]))
    assert not batcher.drain(0.01)
    with pytest.raises(UnavailableError):
        batcher.submit(rows_of([2]))
    gated.let_go(2)
    assert batcher.drain(PATIENCE_SECONDS)
    for index, future in enumerate(accepted):
        assert_answers(future.result(PATIENCE_SECONDS), [index])


def test_drain_of_an_idle_batcher_returns_at_once() -> None:
    assert Batcher(Engine(engine, max_batch_size=4), max_queue_size=20).drain(0)


def test_close_refuses_those_that_wait(pool: ThreadPoolExecutor) -> None:
    gated = GatedEngine()
    batcher = Batcher(Engine(gated, max_batch_size=4), max_queue_size=20)
    running = pool.submit(batcher.submit, rows_of([0]))
    gated.await_start()
    waiting = submit_and_await(pool, batcher, [1])
    batcher.close()
    with pytest.raises(UnavailableError):
        waiting.result(PATIENCE_SECONDS)
    gated.let_go()
    assert_answers(running.result(PATIENCE_SECONDS), [0])
    assert batcher.drain(PATIENCE_SECONDS)
