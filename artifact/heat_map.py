"""Draws a map of evidence over a picture."""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from convd.artifact.geometry import ORIENTATION_TAG, UPRIGHT

_COLORS = np.array(
    [(0, 0, 4), (87, 16, 110), (188, 55, 84), (249, 142, 9), (252, 255, 164)], np.float32
)
"""Five stops of matplotlib's colour map inferno, which stays readable without colour vision."""

_LEAST_COVER, _MOST_COVER = 0.35, 0.75

_STEPS = 256

_FAST = 1
"""Of zlib: a third of the time, and files that are a fiftieth larger."""


def normalized(heat: NDArray[np.float32]) -> NDArray[np.float32]:
    """Evidence for the class from 0 to 1; evidence against it, and what is not seen, are 0."""
    positive = np.maximum(np.nan_to_num(heat), 0)
    peak = positive.max(initial=np.finfo(np.float32).tiny)
    scaled: NDArray[np.float32] = (positive / peak).astype(np.float32)
    return scaled


def overlay(picture: Image.Image, heat: NDArray[np.float32]) -> Image.Image:
    """Lay a map over a picture: gray where nothing speaks for the class, bright where much does.

    Args:
        picture: Mode `RGB`.
        heat: float32, of the picture's height and width.
    """
    share = normalized(heat)
    # What is not 0 has a colour, however small it is.
    step = np.ceil(share * (_STEPS - 1)).astype(np.uint8)
    gray = np.asarray(picture.convert("L"), np.float32)
    mixed = (gray * _SEEN_THROUGH[step])[..., np.newaxis] + _LAID_OVER[step]
    return Image.fromarray(mixed.astype(np.uint8))


def _layers() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """For each step of evidence, the share of the picture that shows, and what lies over it."""
    share = np.linspace(0, 1, _STEPS)
    stops = np.linspace(0, 1, len(_COLORS))
    color = np.stack([np.interp(share, stops, channel) for channel in _COLORS.T], axis=1)
    cover = _LEAST_COVER + (_MOST_COVER - _LEAST_COVER) * share
    cover[0] = 0
    return (1 - cover).astype(np.float32), (color * cover[:, np.newaxis]).astype(np.float32)


_SEEN_THROUGH, _LAID_OVER = _layers()


def to_png(picture: Image.Image, orientation: int = UPRIGHT) -> bytes:
    """Encode a picture, with the EXIF orientation of the file that it was made of."""
    buffer = io.BytesIO()
    if orientation == UPRIGHT:
        picture.save(buffer, "PNG", compress_level=_FAST)
    else:
        exif = Image.Exif()
        exif[ORIENTATION_TAG] = orientation
        picture.save(buffer, "PNG", compress_level=_FAST, exif=exif)
    return buffer.getvalue()
