import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from convd.artifact.evidence import Baseline
from convd.service.metrics.drift import (
    DriftWindow,
    group_classes,
    largest_label_index,
    stability_index,
)

COUNTS = arrays.arrays(np.int64, st.integers(1, 30), elements=st.integers(0, 1000))


def _baseline(shares: list[float], confidence: list[float] | None = None) -> Baseline:
    return Baseline(
        data="digits",
        examples=10_000,
        predicted_shares=tuple(shares),
        confidence_shares=tuple(confidence or [0.0] * 9 + [1.0]),
    )


def _one_of(labels: int, classes: "np.ndarray | list[int]") -> "np.ndarray":
    predicted = np.zeros((len(classes), labels), np.bool_)
    predicted[np.arange(len(classes)), classes] = True
    return predicted


def test_the_index_of_a_hand_calculation() -> None:
    # Half an observation more in each bin: 75.5 and 25.5 of 101 against the half.
    index = stability_index(np.array([75, 25]), np.array([0.5, 0.5]))
    p, q = np.array([75.5, 25.5]) / 101, np.array([0.5, 0.5])
    assert index == pytest.approx(sum((p - q) * np.log(p / q)))
    assert index == pytest.approx(25 / 101 * math.log(75.5 / 25.5))


@given(COUNTS, COUNTS)
def test_the_index_is_finite_and_not_negative(counts: "np.ndarray", expected: "np.ndarray") -> None:
    bins = min(len(counts), len(expected))
    counts, expected = counts[:bins], expected[:bins] + 1
    total = int(expected.sum())
    index = stability_index(counts, expected / total)
    assert 0 <= index < math.inf


@given(COUNTS)
def test_the_index_of_the_baseline_itself_is_0(counts: "np.ndarray") -> None:
    total = int(counts.sum()) + 1
    counts[0] += 1
    assert stability_index(counts, counts / total) == pytest.approx(0, abs=1e-12)


@given(arrays.arrays(np.float64, st.integers(1, 300), elements=st.floats(0, 1)))
def test_groups_are_neighbours_few_and_have_no_gap(shares: "np.ndarray") -> None:
    shares = (shares + 1e-9) / (shares + 1e-9).sum()
    groups = group_classes(shares)
    assert groups[0] == 0
    assert set(np.diff(groups)) <= {0, 1}
    assert groups.max() < max(20, 1)


def test_a_thousand_equal_classes_make_twenty_equal_groups() -> None:
    assert np.bincount(group_classes(np.full(1000, 0.001))).tolist() == [50] * 20


def test_nothing_is_said_before_the_window_is_full() -> None:
    window = DriftWindow(_baseline([0.5, 0.5]), size=10)
    window.add(_one_of(2, [0] * 9), np.ones(9))
    assert window.indices() is None
    window.add(_one_of(2, [0]), np.ones(1))
    assert window.indices() is not None


def test_the_window_forgets_what_is_old() -> None:
    window = DriftWindow(_baseline([0.5, 0.5]), size=100)
    window.add(_one_of(2, [0] * 1000), np.full(1000, 0.2))
    drifted = window.indices()
    assert drifted is not None
    assert min(drifted) > 0.25
    for _ in range(50):
        window.add(_one_of(2, [0, 1]), np.array([1.0, 0.99]))
    settled = window.indices()
    assert settled is not None
    assert max(settled) < 0.1


@given(st.lists(st.integers(1, 40), min_size=1, max_size=20), st.integers(0, 2**31))
def test_only_the_last_rows_count_however_they_come(sizes: list[int], seed: int) -> None:
    generator = np.random.default_rng(seed)
    classes = _one_of(3, generator.integers(0, 3, sum(sizes)))
    confidences = generator.random(sum(sizes))
    piecewise, at_once = (DriftWindow(_baseline([0.2, 0.3, 0.5]), size=30) for _ in range(2))
    start = 0
    for size in sizes:
        piecewise.add(classes[start : start + size], confidences[start : start + size])
        start += size
    at_once.add(classes, confidences)
    if sum(sizes) < 30:
        assert piecewise.indices() is None
    else:
        last = DriftWindow(_baseline([0.2, 0.3, 0.5]), size=30)
        last.add(classes[-30:], confidences[-30:])
        assert piecewise.indices() == pytest.approx(last.indices())


def test_the_labels_of_a_group_count_together() -> None:
    window = DriftWindow(_baseline([0.001] * 1000), size=100)
    # Label 7 of each group of 50: the groups are as in the baseline, its labels are not.
    window.add(_one_of(1000, np.arange(100) % 20 * 50 + 7), np.ones(100))
    indices = window.indices()
    assert indices is not None
    assert indices[0] == pytest.approx(0, abs=1e-12)


@given(arrays.arrays(np.int64, st.integers(1, 30), elements=st.integers(0, 200)))
def test_independent_labels_as_in_the_baseline_have_not_drifted(counts: "np.ndarray") -> None:
    assert largest_label_index(counts, 200, counts / 200) == pytest.approx(0, abs=1e-12)


@given(st.integers(1, 60), st.integers(0, 2**31))
def test_the_label_that_has_changed_most_decides(labels: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    shares = random.uniform(0, 1, labels)
    predicted = random.random((500, labels)) < random.uniform(0, 1, labels)
    window = DriftWindow(_baseline(shares.tolist()), "multilabel", size=500)
    window.add(predicted, np.ones(500))
    indices = window.indices()
    assert indices is not None
    alone = []
    for label in range(labels):
        times = predicted[:, label].sum()
        expected = np.array([shares[label], 1 - shares[label]])
        alone.append(stability_index(np.array([times, 500 - times]), expected))
    assert indices[0] == pytest.approx(max(alone))


def test_one_label_of_many_that_is_suddenly_there_is_noticed_and_chance_is_not() -> None:
    random = np.random.default_rng(0)
    shares = np.full(80, 0.1)
    for prevalence, drifted in ((0.1, False), (0.45, True)):
        now = shares.copy()
        now[42] = prevalence
        window = DriftWindow(_baseline(shares.tolist()), "multilabel")
        window.add(random.random((500, 80)) < now, np.ones(500))
        indices = window.indices()
        assert indices is not None
        assert (indices[0] > 0.25) is drifted
        assert drifted or indices[0] < 0.1
