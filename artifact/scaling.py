"""Scaling and padding of pixels, by Pillow's filters and OpenCV's bilinear one."""

from typing import Annotated, Literal, NamedTuple

import numpy as np
from PIL import Image
from pydantic import Field

from convd.artifact import opencv_bilinear
from convd.artifact.errors import InvalidImageError

Interpolation = Literal[
    "nearest", "box", "bilinear", "hamming", "bicubic", "lanczos", "opencv_bilinear"
]
"""A resampling filter: Pillow's, antialiased but for `nearest`, or OpenCV's `INTER_LINEAR`, which
is bilinear and not antialiased."""

Color = tuple[
    Annotated[int, Field(ge=0, le=255)],
    Annotated[int, Field(ge=0, le=255)],
    Annotated[int, Field(ge=0, le=255)],
]
"""Red, green and blue, 0 to 255."""

BLACK: Color = (0, 0, 0)

MAX_SCALED_PIXELS = 64 * 1024 * 1024
"""Largest picture that padding or scaling may produce: one of 1 x 60,000 pixels would grow to
gigabytes."""

_PILLOW_FILTERS = {
    name: Image.Resampling[name.upper()]
    for name in ("nearest", "box", "bilinear", "hamming", "bicubic", "lanczos")
}


class ImageSize(NamedTuple):
    """Height and width in pixels."""

    height: int
    width: int


def describe_color(color: Color) -> str:
    """A colour as `black`, `white` or `#rrggbb`."""
    text = "#{:02x}{:02x}{:02x}".format(*color)
    return {"#000000": "black", "#ffffff": "white"}.get(text, text)


def scaled(picture: Image.Image, size: ImageSize, interpolation: Interpolation) -> Image.Image:
    """Scale a picture of mode `L` or `RGB`.

    Raises:
        InvalidImageError: It would become huge.
    """
    height, width = size
    if picture.size == (width, height):
        return picture
    if 0 in size:
        return Image.new(picture.mode, (width, height))
    _check_growth(picture, size)
    if interpolation == "opencv_bilinear":
        return Image.fromarray(opencv_bilinear.resize(np.asarray(picture), height, width))
    return picture.resize((width, height), _PILLOW_FILTERS[interpolation])


def on_canvas(
    picture: Image.Image, size: ImageSize, color: Color, left: int, top: int
) -> Image.Image:
    """Paste a picture of mode `L` or `RGB` on a colour; one without pixels leaves the colour alone.

    Raises:
        InvalidImageError: It would become huge.
    """
    if picture.size == (size.width, size.height):
        return picture
    _check_growth(picture, size)
    canvas = Image.new(picture.mode, (size.width, size.height), _fill(picture, color))
    if 0 not in picture.size:
        canvas.paste(picture, (left, top))
    return canvas


def _check_growth(picture: Image.Image, size: ImageSize) -> None:
    if size.height * size.width > MAX_SCALED_PIXELS:
        raise InvalidImageError(
            f"a picture of {picture.width} x {picture.height} would become {size.width} x "
            f"{size.height} pixels: send one that is less elongated"
        )


def _fill(picture: Image.Image, color: Color) -> Color | int:
    """A colour for a picture's mode; gray as Pillow turns a picture of that colour gray."""
    if picture.mode == "RGB":
        return color
    return Image.new("RGB", (1, 1), color).convert("L").tobytes()[0]
