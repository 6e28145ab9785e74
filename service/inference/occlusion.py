"""Occlusion sensitivity: how much less speaks for a class when a place is covered.

Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks", ECCV 2014, section 4.2:
a square slides over the picture. It needs nothing but answers, so it explains any network. It
differs from the paper in two points. The square has the mean colour of what is around it: the
paper's gray is an object of its own on a coloured ground. And what drops is not the probability,
which hardly moves where the network is certain, but the logit of the class in excess of the others.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

GRID = 9
"""Places in each row and column."""

_SHARE_OF_SIDE = 5


class Patch(NamedTuple):
    """What a square covers of a prepared image: rows and columns from, to."""

    top: int
    bottom: int
    left: int
    right: int


def patches(height: int, width: int) -> list[Patch]:
    """The places of the square, row by row, for a prepared image of some size.

    Each is a fifth of the sides; those at the edges are cut off.
    """
    return [
        Patch(*_span(row, height), *_span(column, width))
        for row in range(GRID)
        for column in range(GRID)
    ]


def occluded(
    image: NDArray[np.uint8], places: list[Patch], rows: int
) -> Iterator[NDArray[np.uint8]]:
    """Cover one place after another.

    Args:
        image: A prepared image, uint8 `[height, width, channels]`.
        places: What to cover.
        rows: Pictures in each batch.

    Yields:
        uint8 `[rows, height, width, channels]`, the last one perhaps with fewer rows.
    """
    for start in range(0, len(places), rows):
        part = places[start : start + rows]
        batch = np.repeat(image[np.newaxis], len(part), axis=0)
        for covered, patch in zip(batch, part, strict=True):
            covered[patch.top : patch.bottom, patch.left : patch.right] = _around(image, patch)
        yield batch


def _around(image: NDArray[np.uint8], patch: Patch) -> NDArray[np.uint8]:
    """Mean colour of the pixels that touch a square; of the whole picture where there are none."""
    top, bottom, left, right = patch
    outside = np.ones(image.shape[:2], bool)
    ring = np.zeros(image.shape[:2], bool)
    ring[max(0, top - 1) : bottom + 1, max(0, left - 1) : right + 1] = True
    outside[top:bottom, left:right] = False
    pixels = image[ring & outside] if (ring & outside).any() else image.reshape(-1, image.shape[2])
    mean: NDArray[np.uint8] = pixels.mean(axis=0).round().astype(np.uint8)
    return mean


def excess(logits: NDArray[np.float32], index: int, *, exclusive: bool) -> NDArray[np.float32]:
    """How much speaks for a class.

    Args:
        logits: float32 `[batch, labels]`.
        index: The class.
        exclusive: Whether the classes exclude each other, so that only differences between logits
            mean something; otherwise each logit stands for itself.

    Returns:
        float32 `[batch]`: the logit, less the mean of the others' where they exclude each other.
    """
    own: NDArray[np.float32] = logits[:, index]
    if not exclusive or logits.shape[1] == 1:
        return own
    others: NDArray[np.float32] = (logits.sum(axis=1) - own) / np.float32(logits.shape[1] - 1)
    return own - others


def sensitivity(whole: float, covered: NDArray[np.float32]) -> NDArray[np.float32]:
    """The map of the drops.

    Args:
        whole: What speaks for the class in the picture as it is.
        covered: What does with each place covered, float32 `[GRID * GRID]`.

    Returns:
        float32 `[GRID, GRID]`; negative where covering helps.
    """
    drops: NDArray[np.float32] = (whole - covered).astype(np.float32).reshape(GRID, GRID)
    return drops


def _span(index: int, side: int) -> tuple[int, int]:
    """From and to of a square whose centre lies in the middle of a cell."""
    centre = (index + 0.5) * side / GRID
    half = max(0.5, side / _SHARE_OF_SIDE / 2)
    start = max(0, round(centre - half))
    return start, max(start + 1, min(side, round(centre + half)))
