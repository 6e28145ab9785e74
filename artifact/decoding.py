"""From the bytes of an image file, or raw pixels, to a picture."""

import io

import numpy as np
from PIL import Image, UnidentifiedImageError

from convd.artifact.errors import InvalidImageError

FORMATS = ("JPEG", "PNG", "WEBP", "BMP")
"""The file formats that are decoded; Pillow knows many more, each a surface for attacks."""

MAX_PIXELS = 64 * 1024 * 1024
"""Largest picture that is decoded by default: 64 megapixels take about 200 MB as RGB."""

# Pillow's own bound would warn or raise before `max_pixels` is looked at, and it is one for the
# whole process.
Image.MAX_IMAGE_PIXELS = None


def decode_image(data: bytes, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decode one image file.

    The header is read first, so a small file that would unpack to a huge picture is refused before
    any pixel of it is.

    Args:
        data: The file's bytes: JPEG, PNG, WebP or BMP.
        max_pixels: Largest height x width that is accepted.

    Returns:
        The decoded picture, in the file's own colour mode.

    Raises:
        InvalidImageError: The bytes are empty, of another format, damaged or too large a picture.
    """
    if not data:
        raise InvalidImageError("the image is empty: send the bytes of a JPEG, PNG, WebP or BMP")
    try:
        picture = Image.open(io.BytesIO(data), formats=FORMATS)
        if picture.width * picture.height > max_pixels:
            raise InvalidImageError(
                f"the picture has {picture.width} x {picture.height} pixels, more than the limit "
                f"of {max_pixels}: send a smaller one"
            )
        picture.load()
        return picture
    except InvalidImageError:
        raise
    except UnidentifiedImageError as error:
        raise InvalidImageError(
            "the bytes are no image that can be decoded: send a JPEG, PNG, WebP or BMP"
        ) from error
    # A damaged file makes Pillow's parsers raise nearly anything; whatever it is, the file is bad.
    except Exception as error:
        raise InvalidImageError(
            f"the image is damaged ({type(error).__name__}): send a whole JPEG, PNG, WebP or BMP"
        ) from error


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
    if channels not in (1, 3):
        raise InvalidImageError(f"pixels have {channels} channels: send 1 (grayscale) or 3 (RGB)")
    if height < 1 or width < 1:
        raise InvalidImageError(f"pixels of {height} x {width}: both must be at least 1")
    expected = height * width * channels
    if len(data) != expected:
        raise InvalidImageError(
            f"{height} x {width} x {channels} pixels need {expected} bytes, not {len(data)}"
        )
    shape = (height, width) if channels == 1 else (height, width, channels)
    return Image.fromarray(np.frombuffer(data, np.uint8).reshape(shape))
