"""Data sets in one array."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image


class ArrayDataset:
    """Pictures of one size, in memory.

    Args:
        labels: Class names.
        images: uint8 `[pictures, height, width]` for grayscale, or with a last dimension of 3 for
            RGB.
        targets: `[pictures]`, index of each picture's class in `labels`.
    """

    def __init__(
        self, labels: Sequence[str], images: NDArray[np.uint8], targets: Sequence[int]
    ) -> None:
        self.labels = tuple(labels)
        self._images = images
        self._targets = [int(target) for target in targets]

    def __len__(self) -> int:
        return len(self._images)

    def picture(self, index: int) -> Image.Image:
        """Return one picture, of mode `L` or `RGB`."""
        return Image.fromarray(self._images[index])

    def target(self, index: int) -> int:
        """Index of its class in `labels`."""
        return self._targets[index]
