"""Pictures on which a network and what is served are compared: random, constant, real, mixed."""

import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from convd.artifact.preprocessing import ImageArray

BATCH_SIZES = (1, 2, 7, 32)

_RANDOM = 8
_LEVELS = (0, 36, 73, 109, 146, 182, 219, 255)
_MAX_REAL = 32


class PicturePool(NamedTuple):
    """Distinct pictures, and which batches of them are run.

    Attributes:
        images: uint8 `[pictures, height, width, channels]`.
        kinds: Indices of the random, the constant, and the real ones.
    """

    images: NDArray[np.uint8]
    kinds: dict[str, range]

    def batches(self) -> Iterator[NDArray[np.intp]]:
        """Indices of the pictures of each batch, of one kind or mixed, in every size."""
        generator = np.random.default_rng(0)
        everything = range(len(self.images))
        for size in BATCH_SIZES:
            for kind in (*self.kinds.values(), everything):
                yield generator.choice(kind, size, replace=size > len(kind))

    @property
    def total(self) -> int:
        """Number of batches."""
        return len(BATCH_SIZES) * (len(self.kinds) + 1)


def make_pool(real: Sequence[ImageArray]) -> PicturePool:
    """Put random and constant pictures beside real ones.

    Args:
        real: Real pictures, prepared: uint8 `[height, width, channels]` each.
    """
    shape = real[0].shape
    step = max(1, -(-len(real) // _MAX_REAL))
    kept = [*real[::step]]
    random = np.random.default_rng(0).integers(0, 256, (_RANDOM, *shape), dtype=np.uint8)
    constant = np.stack([np.full(shape, level, np.uint8) for level in _LEVELS])
    images = np.concatenate([random, constant, np.stack(kept)])
    ends = (0, _RANDOM, _RANDOM + len(_LEVELS), len(images))
    names = ("random", "constant", "real")
    return PicturePool(
        images,
        {name: range(*pair) for name, pair in zip(names, itertools.pairwise(ends), strict=True)},
    )
