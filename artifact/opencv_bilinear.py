"""Bilinear scaling without antialiasing, in OpenCV's own arithmetic.

Equal, bit for bit, to `cv2.resize(pixels, (width, height), interpolation=cv2.INTER_LINEAR)` on
uint8: two taps on each axis, weights of 11 bits, and the bits that OpenCV drops between the axes.
"""

import numpy as np
from numpy.typing import NDArray

_WEIGHT_BITS = 11


def resize(pixels: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Scale pixels.

    Args:
        pixels: uint8 `[height, width]` or `[height, width, channels]`.
        height: Rows of the result.
        width: Columns of the result.
    """
    rows, columns = pixels.shape[:2]
    if (rows, columns) == (height, width):
        return pixels
    if (rows, columns) == (2 * height, 2 * width):
        return _halved(pixels)
    flat = pixels.reshape(rows, columns, -1)
    above, below, weight_above, weight_below = _taps(rows, height)
    # OpenCV lets the weights of rows run over the edge, but not those of columns.
    left, right, weight_left, weight_right = _taps(columns, width)
    outside = (left < 0) | (left >= columns - 1)
    weight_left[outside], weight_right[outside] = 1 << _WEIGHT_BITS, 0
    left, right = left.clip(0, columns - 1), right.clip(0, columns - 1)

    def across(chosen: NDArray[np.int32]) -> NDArray[np.int32]:
        """Those rows, scaled to the width."""
        chosen = chosen.clip(0, rows - 1)
        before = flat[np.ix_(chosen, left)].astype(np.int32) * weight_left[:, np.newaxis]
        return before + flat[np.ix_(chosen, right)] * weight_right[:, np.newaxis]

    upper = (across(above) >> 4) * weight_above[:, np.newaxis, np.newaxis] >> 16
    lower = (across(below) >> 4) * weight_below[:, np.newaxis, np.newaxis] >> 16
    scaled = (upper + lower + 2) >> 2
    return scaled.astype(np.uint8).reshape(height, width, *pixels.shape[2:])


def _halved(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """OpenCV takes the mean of four pixels where both sides are exactly halved."""
    wide = pixels.astype(np.uint16)
    total = wide[::2, ::2] + wide[1::2, ::2] + wide[::2, 1::2] + wide[1::2, 1::2]
    return ((total + 2) >> 2).astype(np.uint8)


def _taps(
    source: int, target: int
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]:
    """For each output pixel: both input pixels, perhaps outside, and the weight of each."""
    # The inverse of the inverse: what OpenCV computes, and not always source / target.
    scale = 1 / (target / source)
    position = ((np.arange(target) + 0.5) * scale - 0.5).astype(np.float32)
    first = np.floor(position).astype(np.int32)
    share = position - first.astype(np.float32)
    one = np.float32(1 << _WEIGHT_BITS)
    before = np.rint((np.float32(1) - share) * one).astype(np.int32)
    after = np.rint(share * one).astype(np.int32)
    return first, first + 1, before, after
