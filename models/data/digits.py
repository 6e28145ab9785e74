"""Scikit-learn's handwritten digits: 1,797 pictures of 8 x 8 pixels, installed with the library.

They come from the UCI repository's "Optical Recognition of Handwritten Digits" (Alpaydin and
Kaynak, 1998).
"""

import numpy as np
from sklearn.datasets import load_digits

from convd.models.augmentation import Augmentation
from convd.models.data.arrays import ArrayDataset
from convd.models.data.dataset import HELD_OUT_SHARE, DatasetSplits, split


def load_digits_splits(seed: int) -> DatasetSplits:
    """The digits, white on black, 360 of them held out, each digit in proportion.

    Args:
        seed: Which ones are held out.
    """
    digits = load_digits()
    # Each pixel counts how many of 16 dots were inked.
    images = np.round(digits.images * (255 / 16)).astype(np.uint8)
    everything = ArrayDataset("0123456789", images, digits.target)
    train, held_out = split(everything, share=HELD_OUT_SHARE, seed=seed)
    return DatasetSplits(
        train=train,
        held_out=held_out,
        held_out_name=f"20 % of scikit-learn's digits, held out with seed {seed}",
        channels=1,
        keep_aspect_ratio=False,
        augmentation=Augmentation(rotation_degrees=10, shift=0.08, scale=0.1),
    )
