import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from convd.artifact.answers import confidences, entropy_ratios, predictions
from convd.artifact.manifest import Task

ANSWERS = arrays.arrays(
    np.float32,
    st.tuples(st.integers(1, 5), st.integers(1, 6)),
    elements=st.floats(0, 1, width=32),
)


def test_of_classes_the_first_most_probable_one_is_predicted() -> None:
    rows = np.array([[0.2, 0.5, 0.3], [0.4, 0.2, 0.4]], np.float32)
    assert predictions(rows, "multiclass").tolist() == [[False, True, False], [True, False, False]]


def test_of_independent_labels_each_from_one_half_on_is_predicted() -> None:
    rows = np.array([[0.5, 0.49, 1.0], [0.1, 0.2, 0.3]], np.float32)
    assert predictions(rows, "multilabel").tolist() == [[True, False, True], [False] * 3]


def test_entropy_runs_from_certain_to_clueless() -> None:
    rows = np.array([[1, 0, 0, 0], [0.25, 0.25, 0.25, 0.25], [0.5, 0.5, 0, 0]], np.float32)
    assert entropy_ratios(rows, "multiclass").tolist() == pytest.approx([0, 1, 0.5])
    assert entropy_ratios(np.ones((1, 1), np.float32), "multiclass").tolist() == [0]
    rows = np.array([[1, 0, 1, 1], [0.5, 0.5, 0.5, 0.5], [0.5, 0.5, 0, 1]], np.float32)
    assert entropy_ratios(rows, "multilabel").tolist() == pytest.approx([0, 1, 0.5])


@given(ANSWERS)
def test_independent_labels_are_one_choice_among_all_their_sets(labels: "np.ndarray") -> None:
    """Their joint distribution, written out as classes, gives the same confidence and entropy."""
    joint = np.ones((len(labels), 1))
    for column in labels.T.astype(np.float64):
        joint = np.concatenate([joint * (1 - column)[:, None], joint * column[:, None]], axis=1)
    assert confidences(labels, "multilabel") == pytest.approx(
        confidences(joint, "multiclass"), abs=1e-6
    )
    assert entropy_ratios(labels, "multilabel") == pytest.approx(
        entropy_ratios(joint, "multiclass"), abs=1e-5
    )


@given(ANSWERS, st.sampled_from(["multiclass", "multilabel"]))
def test_ratios_lie_between_0_and_1(rows: "np.ndarray", task: Task) -> None:
    for values in (confidences(rows, task), entropy_ratios(rows, task)):
        assert ((values >= 0) & (values <= 1)).all()
