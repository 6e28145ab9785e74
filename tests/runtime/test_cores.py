import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.cores import CoreBudget, available_cores
from tests.support import wait_until


@settings(max_examples=25, deadline=None)
@given(
    cores=st.integers(1, 4),
    threads=st.lists(st.integers(0, 6), min_size=1, max_size=12),
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

    workers = [threading.Thread(target=work, args=(wanted,)) for wanted in threads]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(timeout=30)
    assert turns == 20 * len(threads)
    assert most <= cores
    assert budget.busy == 0


def test_a_wide_batch_is_not_overtaken_for_ever() -> None:
    budget = CoreBudget(2)
    order: list[str] = []
    first = budget.take(1)
    first.__enter__()

    def run(name: str, threads: int) -> None:
        with budget.take(threads):
            order.append(name)

    wide = threading.Thread(target=run, args=("wide", 2))
    wide.start()
    wait_until(lambda: len(budget._waiting) == 1)
    # A core is free, but the wide batch was here first.
    narrow = threading.Thread(target=run, args=("narrow", 1))
    narrow.start()
    wait_until(lambda: len(budget._waiting) == 2)
    assert order == []
    first.__exit__(None, None, None)
    wide.join(timeout=30)
    narrow.join(timeout=30)
    assert order[0] == "wide"
    assert budget.busy == 0


def test_cores_come_back_when_a_batch_fails() -> None:
    budget = CoreBudget(2)
    with pytest.raises(ValueError, match="broken"), budget.take(2):
        assert budget.busy == 2
        raise ValueError("broken")
    assert budget.busy == 0


def test_a_device_of_its_own_takes_no_core() -> None:
    budget = CoreBudget(1)
    with budget.take(1), budget.take(0):
        assert budget.busy == 1


def test_the_machine_has_cores() -> None:
    assert available_cores() >= 1
