import pytest

from bench.pooling import compare


def test_a_clear_difference_is_called_one() -> None:
    better = [0.99, 0.98, 0.99, 0.98, 0.99]
    worse = [0.95, 0.95, 0.94, 0.95, 0.95]
    comparison = compare(better, worse, "sum")
    assert comparison.mean == pytest.approx(3.8)
    assert comparison.low > 0
    assert comparison.verdict == "max pooling is better than sum pooling"
    assert compare(worse, better, "sum").verdict == "max pooling is worse than sum pooling"


def test_noise_is_not_called_a_difference() -> None:
    comparison = compare([0.98, 0.99, 0.97, 0.99], [0.99, 0.98, 0.98, 0.98], "average")
    assert comparison.low < 0 < comparison.high
    assert comparison.verdict == "max and average pooling cannot be told apart"


def test_the_interval_is_students() -> None:
    # Differences 1, 2, 3: mean 2, standard error 1 / sqrt(3), t(0.975, 2) = 4.303.
    comparison = compare([0.91, 0.92, 0.93], [0.90, 0.90, 0.90], "sum")
    assert comparison.low == pytest.approx(2 - 4.303 / 3**0.5, abs=0.01)
    assert comparison.high == pytest.approx(2 + 4.303 / 3**0.5, abs=0.01)
