"""The recipe from a picture to pixels, written a second time.

Training, export and serving share `convd.artifact.preprocessing`, so a fault there would be on both
sides of every comparison. This one uses arrays where that one uses Pillow, and is used for the
proof alone.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from convd.artifact.preprocessing import CenterCrop, ImageArray, Preprocessing, ResizeTo

_ORIENTATION_TAG = 0x0112
_UPRIGHT: dict[int, Callable[[NDArray[np.uint8]], NDArray[np.uint8]]] = {
    2: np.fliplr,
    3: lambda pixels: np.rot90(pixels, 2),
    4: np.flipud,
    5: lambda pixels: np.swapaxes(pixels, 0, 1),
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: np.rot90(np.swapaxes(pixels, 0, 1), 2),
    8: np.rot90,
}


def reference_pixels(picture: Image.Image, recipe: Preprocessing) -> ImageArray:
    """Turn a decoded picture into a network's pixels.

    Returns:
        uint8 `[height, width, channels]`.
    """
    orientation = int(picture.getexif().get(_ORIENTATION_TAG, 1))
    pixels = _pixels(picture, "L" if recipe.channel_order == "L" else "RGB")
    if recipe.apply_exif_orientation and orientation in _UPRIGHT:
        pixels = np.ascontiguousarray(_UPRIGHT[orientation](pixels))
    height, width = pixels.shape[:2]
    if isinstance(recipe.resize, ResizeTo):
        target = (recipe.resize.height, recipe.resize.width)
    else:
        size, shorter = recipe.resize.size, min(height, width)
        target = (height * size // shorter, width * size // shorter)
    if target != (height, width):
        filters = Image.Resampling[recipe.interpolation.upper()]
        pixels = np.asarray(Image.fromarray(pixels).resize(target[::-1], filters))
    if recipe.center_crop is not None:
        pixels = _centre(pixels, recipe.center_crop)
    pixels = pixels.reshape(*pixels.shape[:2], -1)
    return np.ascontiguousarray(pixels[..., ::-1] if recipe.channel_order == "BGR" else pixels)


def _pixels(picture: Image.Image, mode: str) -> NDArray[np.uint8]:
    if picture.mode.startswith("I;16"):
        picture = Image.fromarray((np.asarray(picture).astype(np.int64) // 256).astype(np.uint8))
    if picture.mode == "P" and isinstance(picture.info.get("transparency"), bytes):
        picture = picture.convert("RGBA")
    return np.asarray(picture.convert(mode))


def _centre(pixels: NDArray[np.uint8], crop: CenterCrop) -> NDArray[np.uint8]:
    """Cut from the middle, padding with black where there are fewer pixels."""
    for axis, size in enumerate((crop.height, crop.width)):
        missing = max(size - pixels.shape[axis], 0)
        before = -(-missing // 2) if crop.rounding == "down" else missing // 2
        padding = [(0, 0)] * pixels.ndim
        padding[axis] = (before, missing - before)
        pixels = np.pad(pixels, padding)
        middle = (pixels.shape[axis] - size) / 2
        start = int(middle) if crop.rounding == "down" else round(middle)
        pixels = pixels.take(range(start, start + size), axis=axis)
    return pixels
