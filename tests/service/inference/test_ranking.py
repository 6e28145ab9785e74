import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from convd.service.inference.ranking import top_classes

# Few different values, so that many are equal; few classes and many are ranked in different ways.
PROBABILITIES = st.one_of(
    *[
        arrays(np.float32, size, elements=st.sampled_from([0.0, 0.125, 0.25, 0.5]))
        for size in (1, 10, 64, 65, 200)
    ]
)


@given(probabilities=PROBABILITIES, top_k=st.integers(0, 250))
def test_the_most_probable_come_first_and_of_equals_the_lower_index(
    probabilities: np.ndarray, top_k: int
) -> None:
    expected = sorted(enumerate(probabilities.tolist()), key=lambda one: (-one[1], one[0]))
    assert top_classes(probabilities, top_k) == (expected[:top_k] if top_k else expected)


@pytest.mark.parametrize("classes", [10, 1000])
def test_ranks_are_of_plain_numbers(classes: int) -> None:
    [(index, probability)] = top_classes(np.linspace(0, 1, classes, dtype=np.float32), 1)
    assert (type(index), type(probability)) == (int, float)
    assert (index, probability) == (classes - 1, 1.0)
