"""BMP, decoded by Pillow; run-length pixels in pure Python, and so only where they are few."""

from collections.abc import Callable
from typing import cast

from PIL import Image, ImageFile

from convd.artifact.errors import InvalidImageError
from convd.artifact.formats.header import STORED_BYTES, PictureHeader, damaged
from convd.artifact.formats.stoppable import open_stoppable

MAGIC = b"BM"

MAX_RUN_LENGTH_PIXELS = 1024 * 1024
"""Largest run-length BMP: Pillow decodes it in Python, under the interpreter's lock."""


def read_header(data: bytes) -> PictureHeader:
    """Read the header; Pillow allocates nothing for it.

    Raises:
        InvalidImageError: It is damaged, of a kind that is not decoded, or run-length and large.
    """
    try:
        picture = open_stoppable(data, "BMP", lambda: None)
        width, height, mode = picture.width, picture.height, picture.mode
        run_length = any(
            tile.codec_name == "bmp_rle" for tile in cast(ImageFile.ImageFile, picture).tile
        )
    # Pillow's parser raises nearly anything for a damaged header.
    except Exception as error:
        reason = type(error).__name__
    else:
        if mode not in STORED_BYTES:
            raise InvalidImageError(f"a BMP of mode {mode} is not decoded: send a PNG")
        if run_length and width * height > MAX_RUN_LENGTH_PIXELS:
            raise InvalidImageError(
                f"a run-length BMP of {width} x {height} pixels would take too long to decode: "
                "send a PNG"
            )
        stored = STORED_BYTES[mode]
        # Run-length pixels are collected in Python before Pillow takes them.
        per_pixel = stored + 4 if run_length else stored
        decoding_bytes = per_pixel * width * height + 8 * width
        return PictureHeader("BMP", width, height, mode, decoding_bytes)
    raise damaged(f"its header cannot be read ({reason})", "BMP")


def decode(data: bytes, check: Callable[[], None]) -> Image.Image:
    """Decode the pixels; `check` is called again and again, and its exceptions are passed on."""
    picture = open_stoppable(data, "BMP", check)
    picture.load()
    return picture
