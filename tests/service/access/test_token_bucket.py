from hypothesis import given
from hypothesis import strategies as st

from convd.service.access.token_bucket import TokenBucket

rates = st.floats(0.1, 1e6)
amounts = st.floats(0.0, 1e4)


def test_a_second_s_worth_at_once_then_the_rate() -> None:
    bucket = TokenBucket.full(4.0, now=100.0)
    assert [bucket.take(1, 100.0) for _ in range(5)] == [0, 0, 0, 0, 0.25]
    assert [bucket.take(1, 100.5) for _ in range(3)] == [0, 0, 0.25]
    assert bucket.take(1, 1000.0) == 0
    assert bucket.level == 3.0, "it never holds more than a second's worth"


def test_less_than_one_a_second_allows_one_at_once() -> None:
    bucket = TokenBucket.full(0.1, now=0.0)
    assert [bucket.take(1, 0.0), bucket.take(1, 0.0)] == [0.0, 10.0]


def test_what_is_larger_than_the_bucket_is_let_in_when_it_is_full_and_paid_back() -> None:
    bucket = TokenBucket.full(10.0, now=0.0)
    assert bucket.take(1, 0.0) == 0
    assert bucket.take(50, 0.0) == 0.1
    assert bucket.take(50, 0.1) == 0
    assert bucket.take(1, 0.1) == 4.1


def test_a_clock_that_stands_still_gives_nothing() -> None:
    bucket = TokenBucket.full(1.0, now=5.0)
    assert bucket.take(1, 5.0) == 0
    assert bucket.take(1, 4.0) > 0


@given(rates, st.lists(st.tuples(st.floats(0.0, 10.0), amounts), max_size=50))
def test_no_more_than_the_rate_and_one_burst(rate: float, steps: list[tuple[float, float]]) -> None:
    bucket, now, taken, largest = TokenBucket.full(rate, 0.0), 0.0, 0.0, 0.0
    for pause, amount in steps:
        now += pause
        if bucket.take(amount, now) == 0:
            taken += amount
            largest = max(largest, amount)
    allowed = bucket.capacity + rate * now + largest
    assert taken <= allowed * (1 + 1e-9)


@given(rates, st.lists(amounts, min_size=1, max_size=20), amounts)
def test_the_hint_is_long_enough(rate: float, before: list[float], amount: float) -> None:
    bucket = TokenBucket.full(rate, 0.0)
    for one in before:
        bucket.take(one, 0.0)
    wait_seconds = bucket.take(amount, 0.0)
    # Rounding: a hint may be a billionth short.
    assert wait_seconds == 0 or bucket.take(amount, wait_seconds * (1 + 1e-9) + 1e-9) == 0
