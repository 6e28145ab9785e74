"""Scikit-learn's handwritten digits: 1,797 pictures of 8 x 8 pixels, installed with the library.

They come from the UCI repository's "Optical Recognition of Handwritten Digits" (Alpaydin and
Kaynak, 1998).
"""

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from models.augmentation import Augmentation
from models.data.dataset import HELD_OUT_SHARE, DatasetSplits, split


class Digits:
    """All 1,797 digits, as grayscale pictures of 8 x 8 pixels."""

    labels = tuple("0123456789")

    def __init__(self) -> None:
        digits = load_digits()
        # Each pixel counts how many of 16 dots were inked.
        self._images = np.round(digits.images * (255 / 16)).astype(np.uint8)
        self._targets = digits.target

    def __len__(self) -> int:
        return len(self._images)

    def picture(self, index: int) -> Image.Image:
        """One digit, mode `L`, white on black."""
        return Image.fromarray(self._images[index])

    def target(self, index: int) -> int:
        """The digit, 0 to 9."""
        return int(self._targets[index])


def load_digits_splits(seed: int) -> DatasetSplits:
    """The digits, 360 of them held out, each digit in proportion.

    Args:
        seed: Which ones are held out.
    """
    train, held_out = split(Digits(), share=HELD_OUT_SHARE, seed=seed)
    return DatasetSplits(
        train=train,
        held_out=held_out,
        held_out_name=f"20 % of scikit-learn's digits, held out with seed {seed}",
        channels=1,
        keep_aspect_ratio=False,
        augmentation=Augmentation(rotation_degrees=10, shift=0.08, scale=0.1),
    )
