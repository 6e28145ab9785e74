"""OpenCV's `INTER_LINEAR` on uint8, written a second time: one matrix for each axis."""

import numpy as np
from numpy.typing import NDArray

from convd.artifact.preprocessing import ImageArray

_WHOLE = 2048
"""The weight of a pixel that is taken alone."""


def opencv_bilinear(pixels: ImageArray, size: tuple[int, int]) -> ImageArray:
    """Scale pixels of `[height, width, ...]` to `size`, height and width."""
    rows, columns = pixels.shape[:2]
    if (rows, columns) == (2 * size[0], 2 * size[1]):
        blocks = pixels.reshape(size[0], 2, size[1], 2, -1).astype(np.int64)
        return _like(pixels, (blocks.sum(axis=(1, 3)) + 2) // 4)
    planes = pixels.reshape(rows, columns, -1).astype(np.int64)
    across = np.einsum("wx,hxc->hwc", sum(_matrices(columns, size[1], ends=True)), planes)
    # Each row's share is cut by itself, before both are added.
    first, second = (
        np.einsum("hy,ywc->hwc", each, across // 16) // 65536
        for each in _matrices(rows, size[0], ends=False)
    )
    return _like(pixels, (first + second + 2) // 4)


def _matrices(source: int, target: int, *, ends: bool) -> list[NDArray[np.int64]]:
    """Weights of the nearer and the farther neighbour, `[target, source]` each.

    Args:
        source: Pixels along the axis.
        target: Pixels wanted.
        ends: Whether a pixel beyond the first or last takes that one alone.
    """
    both = [np.zeros((target, source), np.int64) for _ in range(2)]
    step = 1 / (target / source)
    for index in range(target):
        place = np.float32((index + 0.5) * step - 0.5)
        before = int(np.floor(place))
        share = np.float32(place - np.float32(before))
        if ends and not 0 <= before < source - 1:
            share = np.float32(0)
            before = min(max(before, 0), source - 1)
        weights = (np.float32(1) - share, share)
        for matrix, neighbour, weight in zip(both, (before, before + 1), weights, strict=True):
            matrix[index, min(max(neighbour, 0), source - 1)] = round(float(weight) * _WHOLE)
    return both


def _like(pixels: ImageArray, values: NDArray[np.int64]) -> ImageArray:
    return values.reshape(*values.shape[:2], *pixels.shape[2:]).astype(np.uint8)
