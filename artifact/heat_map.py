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
    share = normalized(heat)[..., np.newaxis]
    gray = np.asarray(picture.convert("L"), np.float32)[..., np.newaxis]
    place = share * (len(_COLORS) - 1)
    lower = np.minimum(place.astype(np.intp), len(_COLORS) - 2)
    part = place - lower
    color = _COLORS[lower[..., 0]] * (1 - part) + _COLORS[lower[..., 0] + 1] * part
    cover = _LEAST_COVER + (_MOST_COVER - _LEAST_COVER) * share
    cover = np.where(share > 0, cover, 0)
    mixed = gray * (1 - cover) + color * cover
    return Image.fromarray(mixed.clip(0, 255).astype(np.uint8))


def to_png(picture: Image.Image, orientation: int = UPRIGHT) -> bytes:
    """Encode a picture, with the EXIF orientation of the file that it was made of."""
    buffer = io.BytesIO()
    if orientation == UPRIGHT:
        picture.save(buffer, "PNG")
    else:
        exif = Image.Exif()
        exif[ORIENTATION_TAG] = orientation
        picture.save(buffer, "PNG", exif=exif)
    return buffer.getvalue()
