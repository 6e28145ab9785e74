"""The drawn pictures are the same for everybody, and each has one object where its box says."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convd.models.data import load_dataset
from convd.models.data.drawn import LABELS, DrawnDataset, draw


def test_a_picture_is_drawn_from_its_number_alone() -> None:
    first, again = DrawnDataset(8, 3), DrawnDataset(100, 3)
    for index in range(8):
        assert first.picture(index).tobytes() == again.picture(index).tobytes()
        assert first.target(index) == index % 4


def test_training_and_held_out_pictures_differ() -> None:
    splits = load_dataset("drawn:", classes=["cat", "bird"])
    assert splits.labels == ("cat", "bird")
    held_out = {splits.held_out.picture(index).tobytes() for index in range(20)}
    assert not held_out & {splits.train.picture(index).tobytes() for index in range(20)}


def test_another_seed_gives_other_pictures() -> None:
    pictures = [load_dataset("drawn:", seed=seed).train.picture(0).tobytes() for seed in (0, 1)]
    assert pictures[0] != pictures[1]


@given(
    st.sampled_from(LABELS),
    st.tuples(st.integers(0, 9), st.integers(0, 10_000)),
    st.tuples(st.integers(24, 120), st.integers(24, 120)),
)
@settings(max_examples=40)
def test_the_object_is_in_its_box(
    label: str, number: tuple[int, int], size: tuple[int, int]
) -> None:
    picture, box = draw(label, number, size=size)
    assert picture.size == size
    assert 0 <= box.left < box.right <= size[0]
    assert 0 <= box.top < box.bottom <= size[1]
    assert max(box.right - box.left, box.bottom - box.top) >= 0.5 * min(size) - 1


@pytest.mark.parametrize("label", LABELS)
def test_an_object_differs_from_its_ground(label: str) -> None:
    """What is in the box varies more than what is around it."""
    inside, outside = [], []
    for number in range(40):
        picture, box = draw(label, (0, number))
        pixels = np.asarray(picture, np.float32)
        mask = np.zeros(pixels.shape[:2], bool)
        mask[box.top : box.bottom, box.left : box.right] = True
        inside.append(pixels[mask].std(axis=0).mean())
        outside.append(pixels[~mask].std(axis=0).mean())
    assert np.mean(inside) > 1.5 * np.mean(outside)
