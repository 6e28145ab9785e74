"""How much memory a picture takes on its way to the network, known before any of it is allocated.

Every figure is an upper bound: Pillow's own storage of each picture that is alive at one time, in
bytes. docs/operating.md has the formula.
"""

from convd.artifact.formats.header import STORED_BYTES, PictureHeader, PictureMode
from convd.artifact.preprocessing import Preprocessing, scaled_size

_ROW_BYTES = 64
"""Pillow keeps a pointer to every row of a picture; there are a few pictures."""

_SMALL_BYTES = 1024 * 1024
"""What decoders and Pillow keep beside the pixels."""


def footprint_of_file(header: PictureHeader, recipe: Preprocessing) -> int:
    """Memory to decode a file and prepare its picture, in bytes.

    Args:
        header: What the file says of its picture.
        recipe: How the picture is prepared.
    """
    preparing = _preparing_bytes(header.width, header.height, header.mode, recipe)
    return header.decoding_bytes + preparing


def footprint_of_pixels(height: int, width: int, channels: int, recipe: Preprocessing) -> int:
    """Memory to prepare raw pixels, in bytes; the pixels themselves are the request's.

    Args:
        height: Rows.
        width: Columns.
        channels: 1 or 3.
        recipe: How the picture is prepared.
    """
    mode: PictureMode = "L" if channels == 1 else "RGB"
    stored = width * height * STORED_BYTES[mode]
    return stored + _preparing_bytes(width, height, mode, recipe)


def _preparing_bytes(width: int, height: int, mode: PictureMode, recipe: Preprocessing) -> int:
    """Memory to prepare a picture, besides the picture."""
    pixels = width * height
    target: PictureMode = "L" if recipe.channel_order == "L" else "RGB"
    total = _SMALL_BYTES + _ROW_BYTES * (width + height)
    if recipe.apply_exif_orientation:
        total += pixels * STORED_BYTES[mode]
    if mode == "I;16":
        # 16 bits become 8 in numpy: two copies of 2 bytes, and the result.
        total += pixels * (2 + 2 + 2 + 1)
    if mode == "P":
        # A palette that is transparent in parts goes by way of RGBA.
        total += pixels * 4
    if target == "L" and mode in {"CMYK", "1"}:
        # Pillow goes by way of another mode.
        total += pixels * STORED_BYTES[mode]
    if mode != target:
        total += pixels * STORED_BYTES[target]
    # A picture lying on its side has its sides exchanged before it is scaled.
    sides = {(width, height), (height, width)}
    return total + max(_scaling_bytes(*side, STORED_BYTES[target], recipe) for side in sides)


def _scaling_bytes(width: int, height: int, stored: int, recipe: Preprocessing) -> int:
    """Pillow scales across, then down; what comes out is cut and copied into an array."""
    scaled = scaled_size(width, height, recipe)
    output = recipe.output_size
    across = scaled.width * height
    down = scaled.width * scaled.height
    padded = max(scaled.width, output.width) * max(scaled.height, output.height)
    arrays = 4 * output.width * output.height * recipe.channels
    return stored * (across + down + padded + output.width * output.height) + arrays
