"""From the bytes of an image file, or raw pixels, to a picture."""

from collections.abc import Callable

import numpy as np
from PIL import Image

from convd.artifact.errors import InvalidImageError
from convd.artifact.formats import bmp, jpeg, png, webp
from convd.artifact.formats.header import PictureHeader, damaged
from convd.artifact.formats.strangers import name_stranger

MAX_PIXELS = 64 * 1024 * 1024
"""Largest picture that is decoded by default: 64 megapixels take about 200 MB as RGB."""


def read_header(data: bytes, *, max_pixels: int = MAX_PIXELS) -> PictureHeader:
    """Read what an image file says of its picture, and allocate nothing for its pixels.

    Args:
        data: The file's bytes: JPEG, PNG, WebP or BMP.
        max_pixels: Largest height x width that is accepted.

    Raises:
        InvalidImageError: The bytes are empty, of another format or damaged, or the picture would
            be too large or take too long to decode.
    """
    if not data:
        raise InvalidImageError("the image is empty: send the bytes of a JPEG, PNG, WebP or BMP")
    if data.startswith(jpeg.MAGIC):
        header = jpeg.read_header(data)
    elif data.startswith(png.MAGIC):
        header = png.read_header(data)
    elif webp.recognises(data):
        header = webp.read_header(data)
    elif data.startswith(bmp.MAGIC):
        header = bmp.read_header(data)
    else:
        raise InvalidImageError(name_stranger(data))
    header.check_size(max_pixels)
    return header


def _never_stop() -> None:
    """Let decoding go on."""


def decode_image(
    data: bytes,
    *,
    max_pixels: int = MAX_PIXELS,
    header: PictureHeader | None = None,
    check: Callable[[], None] = _never_stop,
) -> Image.Image:
    """Decode one image file.

    Args:
        data: The file's bytes: JPEG, PNG, WebP or BMP.
        max_pixels: Largest height x width that is accepted.
        header: What `read_header` has said of it; None to read it here.
        check: Called again and again while pixels are decoded; an exception from it ends that.

    Returns:
        The decoded picture, in the file's own colour mode.

    Raises:
        InvalidImageError: As for `read_header`, or pixels are missing or corrupt. The error keeps
            no reference to the picture, by its traceback or its cause.
    """
    header = header or read_header(data, max_pixels=max_pixels)
    outcome = _decode(data, header, check)
    if isinstance(outcome, str):
        # Pillow's exception would keep its frames alive, and with them the half-decoded picture.
        check()
        raise InvalidImageError(outcome)
    return outcome


def _decode(data: bytes, header: PictureHeader, check: Callable[[], None]) -> Image.Image | str:
    """The picture, or the text of what is wrong with it."""
    try:
        check()
        if header.format == "JPEG":
            return jpeg.decode(data, header)
        if header.format == "PNG":
            return png.decode(data, header, check)
        if header.format == "WEBP":
            return webp.decode(data, header, check)
        return bmp.decode(data, check)
    except InvalidImageError as error:
        return str(error)
    # A damaged file makes Pillow's parsers raise nearly anything; whatever it is, the file is bad.
    except Exception as error:
        what = "the file ends before its pixels do"
        if "truncated" not in str(error):
            what = f"it cannot be decoded ({type(error).__name__})"
        return str(damaged(what, header.format))


def check_pixels(data: bytes, *, height: int, width: int, channels: int) -> None:
    """Refuse raw pixels whose size is not what they are said to be.

    Args:
        data: uint8, row-major `[height, width, channels]`.
        height: Rows.
        width: Columns.
        channels: 1 (grayscale) or 3 (RGB).

    Raises:
        InvalidImageError: A dimension is not positive, or does not fit the bytes.
    """
    if channels not in (1, 3):
        raise InvalidImageError(f"pixels have {channels} channels: send 1 (grayscale) or 3 (RGB)")
    if height < 1 or width < 1:
        raise InvalidImageError(f"pixels of {height} x {width}: both must be at least 1")
    expected = height * width * channels
    if len(data) != expected:
        raise InvalidImageError(
            f"{height} x {width} x {channels} pixels need {expected} bytes, not {len(data)}"
        )


def picture_from_pixels(data: bytes, *, height: int, width: int, channels: int) -> Image.Image:
    """Take raw pixels as a picture.

    Args:
        data: uint8, row-major `[height, width, channels]`.
        height: Rows.
        width: Columns.
        channels: 1 (grayscale) or 3 (RGB).

    Returns:
        A picture of mode `L` or `RGB`.

    Raises:
        InvalidImageError: A dimension is not positive, or does not fit the bytes.
    """
    check_pixels(data, height=height, width=width, channels=channels)
    shape = (height, width) if channels == 1 else (height, width, channels)
    return Image.fromarray(np.frombuffer(data, np.uint8).reshape(shape))
