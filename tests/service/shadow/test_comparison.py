"""The comparison of answers: by the names of classes, whatever their order, and in any grouping."""

import hashlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from convd.artifact.manifest import Manifest, Task
from convd.service.shadow.comparison import Comparison
from convd.service.shadow.report import (
    MOST_CHANGES,
    MOST_DIFFERENT,
    OTHER_LABELS,
    ComparisonReport,
    Outcome,
    join_reports,
)
from tests.digits import Digits

LABELS = ("ant", "bee", "cat", "dog", "eel", "fox", "gnu")

answers = st.lists(
    st.lists(st.floats(0, 1, width=32), min_size=len(LABELS), max_size=len(LABELS)).filter(any),
    min_size=1,
    max_size=12,
)


def manifest(labels: tuple[str, ...], task: Task = "multiclass") -> Manifest:
    # What a comparison reads of it.
    return Manifest.model_construct(labels=labels, task=task, preprocessing=Digits.preprocessing)


def comparison(
    live: tuple[str, ...] = LABELS, candidate: tuple[str, ...] = LABELS, task: Task = "multiclass"
) -> Comparison:
    return Comparison("pets", (3, manifest(live, task)), (4, manifest(candidate, task)))


def softmax(weights: list[float]) -> Any:
    values = np.array(weights, np.float64)
    return (values / values.sum()).astype(np.float32)


def compare(made: Comparison, live: Any, candidate: Any, content: bytes = b"picture") -> None:
    made.add(np.asarray(live, np.float32), np.asarray(candidate, np.float32), content, lambda: None)


def found(made: Comparison) -> ComparisonReport:
    return made.report(0.5, 0, "")


@given(answers, st.permutations(range(len(LABELS))))
def test_the_order_of_the_candidates_classes_changes_nothing(
    weights: list[list[float]], order: list[int]
) -> None:
    same, other = comparison(), comparison(candidate=tuple(LABELS[index] for index in order))
    for index, one in enumerate(weights):
        live, candidate = softmax(one), softmax(weights[index - 1])
        compare(same, live, candidate, bytes([index]))
        compare(other, live, candidate[order], bytes([index]))
    first, second = found(same), found(other)
    assert first.compared == second.compared == len(weights)
    assert first.total_variation == pytest.approx(second.total_variation)
    assert first.live_confidence == pytest.approx(second.live_confidence)
    assert first.candidate_confidence == pytest.approx(second.candidate_confidence)
    assert first.top_k == second.top_k
    named = {each.sha256 for each in first.differences}
    assert named == {each.sha256 for each in second.differences}


@given(answers)
def test_a_version_agrees_with_itself(weights: list[list[float]]) -> None:
    made = comparison()
    for one in weights:
        compare(made, softmax(one), softmax(one))
    report = found(made)
    assert report.top1 == report.top_k == report.compared == len(weights)
    assert report.total_variation == report.absolute_confidence == 0
    assert not report.changes
    assert not report.differences


@given(answers, st.integers(0, 12))
def test_two_processes_find_together_what_one_would(weights: list[list[float]], cut: int) -> None:
    whole, parts = comparison(), (comparison(), comparison())
    for index, one in enumerate(weights):
        pair = softmax(one), softmax(weights[index - 1])
        compare(whole, *pair, bytes([index]))
        compare(parts[index < cut], *pair, bytes([index]))
    (joined,) = join_reports([[found(part)] for part in parts])
    expected = found(whole)
    for name in ("outcomes", "top1", "top_k", "buckets", "changes"):
        assert getattr(joined, name) == getattr(expected, name), name
    assert joined.total_variation == pytest.approx(expected.total_variation)
    assert joined.live_confidence == pytest.approx(expected.live_confidence)
    assert [one.total_variation for one in joined.differences] == [
        one.total_variation for one in expected.differences
    ]


@given(answers)
def test_the_total_variation_is_that_of_the_definition(weights: list[list[float]]) -> None:
    for one in weights:
        made = comparison()
        live, candidate = softmax(one), softmax(weights[0])
        compare(made, live, candidate)
        # The largest difference of any event: of the classes that the live version finds likelier.
        likelier = live > candidate
        expected = float(live[likelier].sum() - candidate[likelier].sum())
        assert found(made).total_variation == pytest.approx(expected, abs=1e-6)


def test_other_classes_are_named_and_count_as_improbable() -> None:
    made = comparison(("ant", "bee", "cat"), ("cat", "dog", "bee"))
    compare(made, [0.7, 0.2, 0.1], [0.1, 0.7, 0.2])
    report = found(made)
    assert (report.only_live, report.only_candidate) == (("ant",), ("dog",))
    assert report.changes == {("ant", "dog"): 1}
    assert report.total_variation == pytest.approx(0.7)
    assert (report.top1, report.top_k) == (0, 0)
    (difference,) = report.differences
    assert difference.sha256 == hashlib.sha256(b"picture").hexdigest()
    assert [difference.live[0][0], difference.candidate[0][0]] == ["ant", "dog"]
    assert [difference.live[0][1], difference.candidate[0][1]] == pytest.approx([0.7, 0.7])


def test_top_k_asks_for_fewer_places_than_there_are_classes() -> None:
    ranks = {
        count: found(comparison(LABELS[:count], LABELS[:count])).rank for count in (1, 2, 4, 7)
    }
    assert ranks == {1: 1, 2: 1, 4: 3, 7: 5}
    made = comparison()
    live = softmax([1, 0, 0, 0, 0, 0, 0])
    for place in range(len(LABELS)):
        candidate = softmax([10 - place, *(20 - index for index in range(1, len(LABELS)))])
        compare(made, live, np.where(np.arange(7) == 0, 0.01 + 0.001 * place, candidate))
    assert found(made).top_k == 0
    compare(made, live, [0.1, 0.3, 0.2, 0.15, 0.15, 0.06, 0.04])
    assert (found(made).top_k, found(made).top1) == (1, 0)


def test_independent_labels_agree_when_the_same_ones_are_predicted() -> None:
    made = comparison(task="multilabel")
    compare(made, [0.9, 0.6, 0, 0, 0, 0, 0], [0.8, 0.7, 0, 0, 0, 0.4, 0])
    compare(made, [0.9, 0.6, 0, 0, 0, 0, 0], [0.9, 0.1, 0, 0, 0, 0, 0])
    compare(made, [0.9, 0.0, 0, 0, 0, 0, 0], [0.1, 0.0, 0, 0, 0, 0, 0])
    report = found(made)
    assert report.top1 == 1
    assert report.changes == {("ant + bee", "ant"): 1, ("ant", "(none)"): 1}
    # The largest difference of a label.
    assert report.total_variation == pytest.approx(0.4 + 0.5 + 0.8, abs=1e-6)


def test_what_is_kept_is_bounded_and_the_most_different_stay() -> None:
    made = comparison()
    # Every place of 0 to 99 once, in disorder.
    shifts = [index * 37 % 100 / 100 for index in range(100)]
    for shift in [*shifts, *shifts]:
        compare(made, [1, 0, 0, 0, 0, 0, 0], [1 - shift, shift, 0, 0, 0, 0, 0], str(shift).encode())
    variations = [one.total_variation for one in found(made).differences]
    assert variations == pytest.approx([0.99 - index / 100 for index in range(MOST_DIFFERENT)])

    many = tuple(f"class {index}" for index in range(60))
    made = comparison(many, many)
    eye = np.eye(len(many), dtype=np.float32)
    for first in range(len(many)):
        for second in range(len(many)):
            if first != second:
                compare(made, eye[first], eye[second])
    changes = found(made).changes
    assert len(changes) == MOST_CHANGES + 1
    assert changes[OTHER_LABELS, OTHER_LABELS] == 60 * 59 - MOST_CHANGES


def test_what_was_not_compared_is_counted_apart() -> None:
    made = comparison()
    made.count(Outcome.DROPPED, 3)
    made.count(Outcome.FAILED)
    assert found(made).outcomes == {Outcome.DROPPED: 3, Outcome.FAILED: 1}
    assert found(made).compared == 0
