"""How much memory a picture takes on its way to the network, known before any of it is allocated.

Every figure is an upper bound: Pillow's own storage of each picture that is alive at one time, in
bytes. docs/operating.md has the formula.
"""

from convd.artifact.formats.header import STORED_BYTES, PictureHeader, PictureMode
from convd.artifact.preprocessing import Preprocessing, sizes_of

_ROW_BYTES = 64
"""Pillow keeps a pointer to every row of a picture; there are a few pictures."""

_PROFILE_BYTES = 16 * 1024 * 1024
"""What Little CMS keeps of an ICC profile with tables, such as a printer's."""

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
    total = _SMALL_BYTES + _ROW_BYTES * (width + height)
    if recipe.apply_exif_orientation:
        total += pixels * STORED_BYTES[mode]
    total += _color_bytes(pixels, mode, recipe)
    stored = STORED_BYTES["L" if recipe.channel_order == "L" else "RGB"]
    if recipe.crop_share is not None:
        total += pixels * stored
    # A picture lying on its side has its sides exchanged before it is scaled.
    sides = {(width, height), (height, width)}
    return total + max(_scaling_bytes(*side, stored, recipe) for side in sides)


def _color_bytes(pixels: int, mode: PictureMode, recipe: Preprocessing) -> int:
    """Memory for the copies that conversions of the colours make."""
    target: PictureMode = "L" if recipe.channel_order == "L" else "RGB"
    gray: PictureMode = "L" if recipe.grayscale else target
    total = 0
    if recipe.apply_icc_profile:
        # With alpha, as the profile wants it, converted; and Little CMS' tables.
        total += _PROFILE_BYTES + pixels * (STORED_BYTES["RGBA"] + 1 + 2 * STORED_BYTES["CMYK"])
    if recipe.background is not None:
        # The colour, the picture with alpha, one on the other, and that without alpha.
        total += pixels * 4 * STORED_BYTES["RGBA"]
    if mode == "I;16":
        # 16 bits become 8 in numpy: two copies of 2 bytes, and the result.
        total += pixels * (2 + 2 + 2 + 1)
    if mode == "P":
        # A palette that is transparent in parts goes by way of RGBA.
        total += pixels * 4
    if gray == "L" and mode in {"CMYK", "1"}:
        # Pillow goes by way of another mode.
        total += pixels * STORED_BYTES[mode]
    if mode != gray:
        total += pixels * STORED_BYTES[gray]
    if recipe.invert:
        total += pixels * STORED_BYTES[gray]
    if gray != target:
        total += pixels * STORED_BYTES[target]
    return total


def _scaling_bytes(width: int, height: int, stored: int, recipe: Preprocessing) -> int:
    """What padding and scaling make; what comes out is cut and copied into an array."""
    padded, scaled, final = sizes_of(width, height, recipe)
    output = recipe.output_size
    total = 0
    if padded != (height, width):
        total += padded.width * padded.height * stored
    if recipe.interpolation == "opencv_bilinear":
        # The picture as an array, by way of bytes; and a few arrays of the result.
        total += 3 * recipe.channels * padded.width * padded.height
        total += 32 * recipe.channels * scaled.width * scaled.height
    else:
        # Pillow scales across, then down.
        total += stored * scaled.width * padded.height
    total += stored * scaled.width * scaled.height
    if final != scaled:
        total += stored * final.width * final.height
    total += stored * max(final.width, output.width) * max(final.height, output.height)
    total += stored * output.width * output.height
    return total + 4 * output.width * output.height * recipe.channels
