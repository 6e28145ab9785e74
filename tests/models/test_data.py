import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sklearn.datasets import load_digits

from convd.artifact.preprocessing import CenterCrop, ResizeShorterSide, ResizeTo, prepare_image
from convd.models.augmentation import Augmentation
from convd.models.data import DatasetSplits, ImageDataset, load_dataset
from convd.models.data.dataset import split, targets_of
from convd.models.data.prepared import PreparedDataset
from convd.models.errors import DataError


@pytest.fixture(scope="module")
def digits() -> DatasetSplits:
    return load_dataset("digits")


def test_digits_are_divided_and_stratified(digits: DatasetSplits) -> None:
    assert (len(digits.train), len(digits.held_out)) == (1437, 360)
    assert digits.labels == digits.held_out.labels == tuple("0123456789")
    counts = np.bincount(targets_of(digits.held_out))
    assert counts.min() >= 34
    assert counts.max() <= 37


def test_digits_are_those_of_scikit_learn(digits: DatasetSplits) -> None:
    pictures = [(each.tobytes(), target) for each, target in _pictures(digits)]
    source = load_digits()
    expected = [
        (np.round(image * 255 / 16).astype(np.uint8).tobytes(), int(target))
        for image, target in zip(source.images, source.target, strict=True)
    ]
    assert sorted(pictures) == sorted(expected)
    assert digits.train.picture(0).mode == "L"
    assert digits.train.picture(0).size == (8, 8)


def test_a_seed_decides_the_split() -> None:
    def held_out(seed: int) -> list[bytes]:
        subset = load_dataset("digits", seed=seed).held_out
        return [subset.picture(index).tobytes() for index in range(20)]

    assert held_out(1) == held_out(1)
    assert held_out(1) != held_out(2)


def test_classes_are_kept_in_the_order_given() -> None:
    splits = load_dataset("digits", classes=("7", "3"))
    assert splits.labels == splits.held_out.labels == ("7", "3")
    source = {each.tobytes(): target for each, target in _pictures(load_dataset("digits"))}
    for picture, target in _pictures(splits):
        assert source[picture.tobytes()] == (7, 3)[target]


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (("3", "cat"), "there is no class 'cat': choose from 0, 1"),
        (("3", "3"), "name each once"),
        (("3",), "at least two"),
    ],
)
def test_classes_that_cannot_be_kept(classes: tuple[str, ...], message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_dataset("digits", classes=classes)


def test_an_unknown_specification_names_the_known_ones() -> None:
    with pytest.raises(DataError, match="'imagenet': use digits"):
        load_dataset("imagenet")


@given(
    counts=st.lists(st.integers(2, 12), min_size=2, max_size=6),
    seed=st.integers(0, 1000),
    share=st.floats(0.05, 0.5),
)
def test_a_split_loses_and_repeats_nothing(counts: list[int], seed: int, share: float) -> None:
    dataset = _Numbered(counts)
    rest, aside = split(dataset, share=share, seed=seed)
    numbers = [each.tobytes()[0] for part in (rest, aside) for each in _all(part)]
    assert sorted(numbers) == list(range(len(dataset)))
    for part in (rest, aside):
        assert set(targets_of(part)) == set(range(len(counts)))


def test_a_class_of_one_picture_cannot_be_divided() -> None:
    with pytest.raises(DataError, match=r"class 'b' has too few pictures \(1\)"):
        split(_Numbered([5, 1]), share=0.2, seed=0)


def test_preprocessing_suits_the_pictures(digits: DatasetSplits) -> None:
    recipe = digits.preprocessing(32)
    assert recipe.resize == ResizeTo(height=32, width=32)
    assert recipe.output_shape == (32, 32, 1)
    assert digits.preprocessing(32, channels=3).output_shape == (32, 32, 3)
    photographs = DatasetSplits(
        digits.train, digits.held_out, "", 3, keep_aspect_ratio=True, augmentation=Augmentation()
    ).preprocessing(224)
    assert photographs.resize == ResizeShorterSide(size=256)
    assert photographs.center_crop == CenterCrop(height=224, width=224)


@pytest.mark.parametrize("max_bytes_in_memory", [0, 10**9])
def test_pictures_are_prepared_as_serving_does(
    digits: DatasetSplits, max_bytes_in_memory: int
) -> None:
    recipe = digits.preprocessing(32)
    prepared = PreparedDataset(digits.held_out, recipe, max_bytes_in_memory=max_bytes_in_memory)
    seen = 0
    for batch in prepared.in_order(50):
        for image, target in zip(batch.images, batch.targets, strict=True):
            expected = prepare_image(digits.held_out.picture(seen), recipe)
            np.testing.assert_array_equal(image.numpy(), expected)
            assert target == digits.held_out.target(seen)
            seen += 1
    assert seen == 360


class _Numbered:
    """One-pixel pictures, each with a value of its own."""

    def __init__(self, counts: list[int]) -> None:
        self.labels = tuple("abcdef"[: len(counts)])
        self._targets = [index for index, count in enumerate(counts) for _ in range(count)]

    def __len__(self) -> int:
        return len(self._targets)

    def picture(self, index: int) -> Image.Image:
        return Image.new("L", (1, 1), index)

    def target(self, index: int) -> int:
        return self._targets[index]


def _all(dataset: ImageDataset) -> list[Image.Image]:
    return [dataset.picture(index) for index in range(len(dataset))]


def _pictures(splits: DatasetSplits) -> list[tuple[Image.Image, int]]:
    return [
        (part.picture(index), part.target(index))
        for part in (splits.train, splits.held_out)
        for index in range(len(part))
    ]
