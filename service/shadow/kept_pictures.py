"""What is kept of a picture that the versions answer differently, where the operator wants it."""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from convd.artifact.formats import bmp, jpeg, png
from convd.artifact.preprocessing import ChannelOrder, picture_of
from convd.service.lifecycle.shadow_settings import KeptPictures
from convd.service.shadow.report import Picture

THUMBNAIL_SIDE = 128
"""Longer side of a thumbnail, in pixels."""

MAX_ORIGINAL_BYTES = 128 * 1024
"""A larger file is kept as its thumbnail."""


def kept_picture(
    kind: KeptPictures, source: bytes | None, image: NDArray[np.uint8], order: ChannelOrder
) -> Picture | None:
    """Make what is kept of a picture.

    Args:
        kind: What is kept.
        source: The file as the caller sent it; None if it was none.
        image: What the network saw, uint8 `[height, width, channels]`.
        order: The order of its channels.

    Returns:
        The file, a PNG of what the network saw, or None.
    """
    if kind is KeptPictures.NONE:
        return None
    if kind is KeptPictures.ORIGINAL and source and len(source) <= MAX_ORIGINAL_BYTES:
        return Picture(_media_type(source), source)
    thumbnail = picture_of(image, order)
    thumbnail.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE), Image.Resampling.BOX)
    file = io.BytesIO()
    thumbnail.save(file, "PNG")
    return Picture("image/png", file.getvalue())


def _media_type(file: bytes) -> str:
    """The media type of a file that was decoded."""
    for magic, kind in ((jpeg.MAGIC, "jpeg"), (png.MAGIC, "png"), (bmp.MAGIC, "bmp")):
        if file.startswith(magic):
            return f"image/{kind}"
    return "image/webp"
