import threading
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convd.runtime.cores import CoreBudget, CoreShare, available_cores
from tests.support import wait_until


@settings(max_examples=25, deadline=None)
@given(
    cores=st.integers(1, 4),
    threads=st.lists(st.integers(1, 6), min_size=1, max_size=12),
)
def test_never_gives_away_more_cores_than_there_are(cores: int, threads: list[int]) -> None:
    budget = CoreBudget(cores)
    lock = threading.Lock()
    busy, most, turns = 0, 0, 0

    def work(wanted: int) -> None:
        nonlocal busy, most, turns
        for _ in range(20):
            with budget.take(wanted):
                with lock:
                    busy += min(wanted, cores)
                    most = max(most, busy)
                with lock:
                    busy -= min(wanted, cores)
                    turns += 1

    workers = [threading.Thread(target=work, args=(wanted,), daemon=True) for wanted in threads]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(timeout=30)
    assert turns == 20 * len(threads)
    assert most <= cores
    assert budget.busy == budget.running == 0


def test_cores_are_granted_in_order_and_a_wide_batch_is_not_overtaken() -> None:
    budget = CoreBudget(2)
    order: list[str] = []
    assert budget.request(1, partial(order.append, "first"))
    assert not budget.request(2, partial(order.append, "wide"))
    # A core is free, but the wide batch was here first.
    assert not budget.request(1, partial(order.append, "narrow"))
    assert not budget.request(1, partial(order.append, "last"))
    budget.release(1)
    assert order == ["wide"]
    assert (budget.busy, budget.running) == (2, 1)
    budget.release(2)
    assert order == ["wide", "narrow", "last"]
    assert (budget.busy, budget.running) == (2, 2)


def test_who_asks_for_more_than_there_are_gets_all() -> None:
    budget = CoreBudget(2)
    assert budget.request(7, pytest.fail)
    assert budget.busy == 2
    budget.release(7)
    assert budget.busy == 0


def test_cores_are_kept_until_somebody_else_wants_them() -> None:
    order: list[str] = []
    share = CoreShare(CoreBudget(1), 1)
    assert share.request(pytest.fail)
    assert share.renew(pytest.fail)
    assert not share.request(partial(order.append, "other"))
    assert not share.renew(partial(order.append, "again"))
    assert order == []
    share.release()
    assert order == ["other"]
    share.release()
    assert order == ["other", "again"]
    assert share.budget.busy == 1


def test_whoever_is_granted_cores_may_give_them_back_at_once() -> None:
    budget = CoreBudget(1)
    order: list[int] = []

    def pass_on(index: int) -> None:
        order.append(index)
        budget.release(1)

    assert budget.request(1, pytest.fail)
    for index in range(5):
        assert not budget.request(1, partial(pass_on, index))
    budget.release(1)
    assert order == [0, 1, 2, 3, 4]
    assert budget.busy == budget.running == 0


def test_a_thread_waits_for_its_cores() -> None:
    budget = CoreBudget(2)
    taken = threading.Event()

    def work() -> None:
        with budget.take(2):
            taken.set()

    with budget.take(1):
        worker = threading.Thread(target=work, daemon=True)
        worker.start()
        wait_until(lambda: len(budget._line) == 1)
        assert not taken.is_set()
    worker.join(timeout=30)
    assert taken.is_set()
    assert budget.busy == 0


@pytest.mark.parametrize("too_late", [False, True])
def test_a_thread_that_is_interrupted_leaves_the_line(
    monkeypatch: pytest.MonkeyPatch, too_late: bool
) -> None:
    budget = CoreBudget(2)
    order: list[str] = []

    class Interrupted:
        """A lock whose second `acquire`, the one that waits, ends as Ctrl-C would end it."""

        def __init__(self) -> None:
            self.acquired = False

        def acquire(self) -> None:
            if self.acquired:
                assert not budget.request(1, partial(order.append, "behind"))
                if too_late:
                    budget.release(1)
                raise KeyboardInterrupt
            self.acquired = True

        def release(self) -> None:
            order.append("interrupted")

    assert budget.request(1, pytest.fail)
    monkeypatch.setattr(threading, "Lock", Interrupted)
    with pytest.raises(KeyboardInterrupt), budget.take(2):
        pytest.fail("it has no cores")
    assert order == (["interrupted", "behind"] if too_late else ["behind"])
    budget.release(1)
    assert budget.busy == (0 if too_late else 1)


def test_cores_come_back_when_a_batch_fails() -> None:
    budget = CoreBudget(2)
    with pytest.raises(ValueError, match="broken"), budget.take(2):
        assert budget.busy == 2
        raise ValueError("broken")
    assert budget.busy == 0


def test_the_machine_has_cores() -> None:
    assert available_cores() >= 1
