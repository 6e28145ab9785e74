import pytest
from hypothesis import given
from hypothesis import strategies as st

from convd.service.batching.engine import BatchCosts


def test_nothing_is_expected_before_the_first_measurement() -> None:
    assert BatchCosts().expected_seconds(32) == 0.0


@given(
    st.floats(0.001, 0.1),
    st.floats(0.0, 0.05),
    st.lists(st.integers(1, 32), min_size=3, max_size=60).filter(lambda r: len(set(r)) > 2),
)
def test_a_linear_cost_is_learned(fixed: float, by_row: float, sizes: list[int]) -> None:
    costs = BatchCosts()
    for rows in sizes * 20:
        costs.observe(rows, fixed + by_row * rows)
    for rows in (1, 8, 32):
        assert costs.expected_seconds(rows) == pytest.approx(fixed + by_row * rows, rel=0.05)


def test_one_size_alone_says_nothing_against_larger_ones() -> None:
    costs = BatchCosts()
    for _ in range(100):
        costs.observe(1, 0.01)
    assert costs.expected_seconds(32) == pytest.approx(0.01)


def test_scatter_widens_the_margin() -> None:
    costs = BatchCosts()
    for index in range(100):
        costs.observe(4, 0.01 if index % 2 else 0.03)
    # The mean and four mean deviations.
    assert costs.expected_seconds(4) == pytest.approx(0.02 + 4 * 0.01, rel=0.05)


def test_lone_requests_bring_the_expectation_for_all_sizes_down() -> None:
    costs = BatchCosts()
    for rows in (1, 4, 16) * 20:
        costs.observe(rows, 1.0 + rows)
    for _ in range(200):
        costs.observe(1, 0.001)
    assert costs.expected_seconds(16) < 0.02
