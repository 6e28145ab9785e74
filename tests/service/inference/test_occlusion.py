"""What speaks for a class is what its probability rests on."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from convd.service.inference.occlusion import GRID, excess, patches

LOGITS = arrays(np.float32, (3, 4), elements=st.floats(-50, 50, width=32))


@given(LOGITS, st.integers(0, 3), st.floats(-50, 50))
def test_a_constant_added_to_all_logits_changes_nothing_that_softmax_would_not_change(
    logits: np.ndarray, index: int, constant: float
) -> None:
    moved = excess(logits + np.float32(constant), index, exclusive=True)
    np.testing.assert_allclose(moved, excess(logits, index, exclusive=True), atol=1e-3)


@given(LOGITS, st.integers(0, 3))
def test_an_independent_label_stands_for_itself(logits: np.ndarray, index: int) -> None:
    changed = logits.copy()
    changed[:, (index + 1) % 4] += 1
    np.testing.assert_array_equal(excess(changed, index, exclusive=False), logits[:, index])
    assert (excess(changed, index, exclusive=True) < excess(logits, index, exclusive=True)).all()


def test_a_lone_label_has_no_others() -> None:
    logits = np.array([[2.0], [3.0]], np.float32)
    np.testing.assert_array_equal(excess(logits, 0, exclusive=True), logits[:, 0])


@given(st.integers(1, 300), st.integers(1, 300))
def test_every_pixel_is_covered_by_some_square_and_no_square_is_empty(
    height: int, width: int
) -> None:
    covered = np.zeros((height, width), bool)
    for patch in patches(height, width):
        assert patch.top < patch.bottom <= height
        assert patch.left < patch.right <= width
        covered[patch.top : patch.bottom, patch.left : patch.right] = True
    assert covered.all() or min(height, width) < GRID
