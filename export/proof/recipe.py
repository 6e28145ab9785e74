"""The recipe from a picture to pixels, written a second time.

Training, export and serving share `convd.artifact.preprocessing`, so a fault there would be on both
sides of every comparison. This one uses arrays where that one uses Pillow, and is used for the
proof alone. Pillow's filters and Little CMS are the only code that both share.
"""

import io
from collections.abc import Callable
from functools import singledispatch

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from convd.artifact.preprocessing import (
    CenterCrop,
    Color,
    ImageArray,
    Interpolation,
    Letterbox,
    PadToSquare,
    Preprocessing,
    ResizeKind,
    ResizeShorterSide,
    ResizeTo,
)
from convd.export.proof.opencv import opencv_bilinear

_ORIENTATION_TAG = 0x0112
_UPRIGHT: dict[int, Callable[[ImageArray], ImageArray]] = {
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
    pixels = _colors(picture, recipe)
    if recipe.apply_exif_orientation and orientation in _UPRIGHT:
        pixels = np.ascontiguousarray(_UPRIGHT[orientation](pixels))
    if recipe.crop_share is not None:
        margins = [int((side - side * recipe.crop_share) / 2) for side in pixels.shape[:2]]
        for axis, margin in enumerate(margins):
            pixels = pixels.take(range(margin, pixels.shape[axis] - margin), axis=axis)
    pixels = _resize(recipe.resize, pixels, recipe.interpolation)
    if recipe.center_crop is not None:
        pixels = _centre(pixels, recipe.center_crop)
    pixels = pixels.reshape(*pixels.shape[:2], -1)
    return np.ascontiguousarray(pixels[..., ::-1] if recipe.channel_order == "BGR" else pixels)


def _colors(picture: Image.Image, recipe: Preprocessing) -> ImageArray:
    """`[height, width]` or `[height, width, 3]`, not yet upright."""
    if picture.mode.startswith("I;16"):
        info = picture.info
        picture = Image.fromarray((np.asarray(picture).astype(np.int64) // 256).astype(np.uint8))
        if "icc_profile" in info:
            picture.info["icc_profile"] = info["icc_profile"]
    alpha = None
    if picture.has_transparency_data and (recipe.background or picture.mode == "P"):
        profile = picture.info.get("icc_profile")
        picture = picture.convert("RGBA")
        alpha = np.asarray(picture)[..., 3:]
        if profile is not None:
            picture.info["icc_profile"] = profile
    if recipe.apply_icc_profile and "icc_profile" in picture.info:
        picture = _in_srgb(picture)
    if recipe.background is not None and alpha is not None:
        picture = Image.fromarray(_blend(np.asarray(picture.convert("RGB")), alpha, recipe))
    gray = recipe.grayscale or recipe.channel_order == "L"
    pixels = np.asarray(picture.convert("L" if gray else "RGB"))
    if recipe.invert:
        pixels = 255 - pixels
    if recipe.grayscale and recipe.channel_order != "L":
        pixels = np.stack([pixels] * 3, axis=2)
    return pixels


def _in_srgb(picture: Image.Image) -> Image.Image:
    profile = ImageCms.getOpenProfile(io.BytesIO(picture.info["icc_profile"]))
    mode = {"GRAY": "L", "CMYK": "CMYK"}.get(profile.profile.xcolor_space.strip(), "RGB")
    converted = ImageCms.profileToProfile(
        picture.convert(mode), profile, ImageCms.createProfile("sRGB"), outputMode="RGB"
    )
    if converted is None:
        raise AssertionError("only in place is there no result")
    return converted


def _blend(pixels: ImageArray, alpha: ImageArray, recipe: Preprocessing) -> ImageArray:
    """Colour and background in proportion, rounded to the nearest value."""
    share = alpha.astype(np.int64)
    total = pixels * share + np.array(recipe.background) * (255 - share)
    return ((total + 127) // 255).astype(np.uint8)


@singledispatch
def _resize(resize: ResizeKind, pixels: ImageArray, interpolation: Interpolation) -> ImageArray:
    """Scale pixels in one way; each way is written below."""
    raise NotImplementedError(type(resize).__name__)


@_resize.register
def _(resize: ResizeShorterSide, pixels: ImageArray, interpolation: Interpolation) -> ImageArray:
    height, width = pixels.shape[:2]
    shorter = min(height, width)
    size = (height * resize.size // shorter, width * resize.size // shorter)
    return _scale(pixels, size, interpolation)


@_resize.register
def _(resize: ResizeTo, pixels: ImageArray, interpolation: Interpolation) -> ImageArray:
    return _scale(pixels, (resize.height, resize.width), interpolation)


@_resize.register
def _(resize: Letterbox, pixels: ImageArray, interpolation: Interpolation) -> ImageArray:
    height, width = pixels.shape[:2]
    inner = [resize.height, resize.width]
    if width * resize.height > height * resize.width:
        inner[0] = round(height / width * resize.width)
    elif width * resize.height < height * resize.width:
        inner[1] = round(width / height * resize.height)
    scaled = _scale(pixels, (inner[0], inner[1]), interpolation)
    # Half a pixel goes to the even side, as round() does it.
    margins = [round((resize.height - inner[0]) / 2), round((resize.width - inner[1]) / 2)]
    return _framed(scaled, (resize.height, resize.width), margins, resize.color)


@_resize.register
def _(resize: PadToSquare, pixels: ImageArray, interpolation: Interpolation) -> ImageArray:
    side = max(pixels.shape[:2])
    margins = [(side - each) // 2 for each in pixels.shape[:2]]
    square = _framed(pixels, (side, side), margins, resize.color)
    return _scale(square, (resize.size, resize.size), interpolation)


def _scale(pixels: ImageArray, size: tuple[int, int], interpolation: Interpolation) -> ImageArray:
    if size == pixels.shape[:2]:
        return pixels
    if 0 in size:
        return np.empty((*size, *pixels.shape[2:]), np.uint8)
    if interpolation == "opencv_bilinear":
        return opencv_bilinear(pixels, size)
    filters = Image.Resampling[interpolation.upper()]
    return np.asarray(Image.fromarray(pixels).resize(size[::-1], filters))


def _framed(
    pixels: ImageArray, size: tuple[int, int], margins: list[int], color: Color
) -> ImageArray:
    """Pixels in the middle of a colour, which gets their number of channels."""
    filling = np.array(color, np.uint8)
    if pixels.ndim == 2:
        filling = np.asarray(Image.fromarray(filling.reshape(1, 1, 3)).convert("L"))[0]
    canvas: NDArray[np.uint8] = np.empty((*size, *pixels.shape[2:]), np.uint8)
    canvas[:] = filling
    (top, left), (height, width) = margins, pixels.shape[:2]
    canvas[top : top + height, left : left + width] = pixels
    return canvas


def _centre(pixels: ImageArray, crop: CenterCrop) -> ImageArray:
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
