"""The decode budget: never exceeded, always given back, and never waited for in vain."""

import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convd.artifact.errors import InvalidImageError
from convd.service.calls.call import Call
from convd.service.errors import CallerGoneError, DeadlineExceededError, QueueFullError
from convd.service.inference import decode_budget
from convd.service.inference.decode_budget import MAX_WAITING, DecodeBudget
from tests.support import wait_until


@given(sizes=st.lists(st.integers(1, 640), max_size=24))
def test_pictures_of_many_threads_never_exceed_it(sizes: list[int]) -> None:
    budget = DecodeBudget(640)
    most: list[int] = []
    failures: list[Exception] = []

    def decode(size: int) -> None:
        try:
            with budget.reserve(size, Call()):
                most.append(budget.reserved_bytes)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=decode, args=(size,)) for size in sizes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(isinstance(error, QueueFullError) for error in failures)
    assert len(most) + len(failures) == len(sizes)
    assert max(most, default=0) <= 640
    assert budget.reserved_bytes == 0


def test_a_picture_that_can_never_fit_is_the_callers_fault() -> None:
    with (
        pytest.raises(InvalidImageError, match=r"2 MiB.*1 MiB \(--decode-budget-bytes\)"),
        DecodeBudget(2**20).reserve(2**21, Call()),
    ):
        pass


def test_the_largest_picture_fits_where_nothing_else_is_decoded() -> None:
    budget = DecodeBudget(100)
    with budget.reserve(100, Call()):
        assert budget.reserved_bytes == 100


def test_large_pictures_leave_room_for_small_ones() -> None:
    budget = DecodeBudget(640)
    with budget.reserve(320, Call()), budget.reserve(240, Call()):
        call = Call(deadline=time.monotonic() + 0.01)
        with pytest.raises(DeadlineExceededError), budget.reserve(80, call):
            pass
        with budget.reserve(20, Call()):
            assert budget.reserved_bytes == 580


def test_room_that_comes_back_goes_to_those_who_wait() -> None:
    budget = DecodeBudget(100)
    entered = threading.Event()

    def decode() -> None:
        with budget.reserve(90, Call()):
            entered.set()

    thread = threading.Thread(target=decode)
    with budget.reserve(90, Call()):
        thread.start()
        wait_until(lambda: budget.waiting == 1)
        assert not entered.is_set()
    thread.join()
    assert entered.is_set()


def test_who_waits_heeds_deadline_and_cancellation() -> None:
    budget = DecodeBudget(100)
    gone = Call()
    threading.Timer(0.05, gone.cancel).start()
    with budget.reserve(90, Call()):
        with pytest.raises(CallerGoneError), budget.reserve(90, gone):
            pass
        with (
            pytest.raises(DeadlineExceededError),
            budget.reserve(90, Call(deadline=time.monotonic() + 0.05)),
        ):
            pass
    assert budget.reserved_bytes == budget.waiting == 0


def test_nobody_waits_for_ever_and_few_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    budget = DecodeBudget(100)
    monkeypatch.setattr(decode_budget, "PATIENCE_SECONDS", 0.3)
    refusals: list[str] = []

    def decode() -> None:
        with pytest.raises(QueueFullError) as refused, budget.reserve(90, Call()):
            pass
        refusals.append(str(refused.value))

    threads = [threading.Thread(target=decode) for _ in range(MAX_WAITING)]
    with budget.reserve(90, Call()):
        for thread in threads:
            thread.start()
        wait_until(lambda: budget.waiting == MAX_WAITING)
        with pytest.raises(QueueFullError, match="are waiting"), budget.reserve(90, Call()):
            pass
        for thread in threads:
            thread.join()
    assert len(refusals) == MAX_WAITING
    assert all("no memory came free" in refusal for refusal in refusals)
