"""The colours of a picture: from whatever a file holds to 8-bit grayscale or RGB."""

import io
from typing import Literal

import numpy as np
from PIL import Image, ImageCms

from convd.artifact.errors import InvalidImageError
from convd.artifact.scaling import Color

MAX_PROFILE_BYTES = 4 * 1024 * 1024
"""Largest ICC profile that is applied; those of printers have up to 3 MB."""

# A profile's colour space, and the mode in which a picture is given to it.
_MODES_OF_SPACES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}


def to_mode(picture: Image.Image, mode: Literal["L", "RGB"]) -> Image.Image:
    """Convert as Pillow does; of 16 bits, the upper 8 are kept, and alpha is dropped."""
    picture = _in_eight_bits(picture)
    if picture.mode == "P" and isinstance(picture.info.get("transparency"), bytes):
        # Converting straight to RGB makes Pillow warn about palettes with transparent colours.
        picture = picture.convert("RGBA")
    return picture if picture.mode == mode else picture.convert(mode)


def composited(picture: Image.Image, background: Color) -> Image.Image:
    """Lay a picture that is transparent in parts on a colour, as `Image.alpha_composite` does.

    A transparent colour of a 16-bit picture is not looked for.

    Returns:
        A picture of mode `RGB`; an opaque one as it is, but for 8 bits.
    """
    picture = _in_eight_bits(picture)
    if not picture.has_transparency_data:
        return picture
    canvas = Image.new("RGBA", picture.size, background)
    return Image.alpha_composite(canvas, picture.convert("RGBA")).convert("RGB")


def to_srgb(picture: Image.Image) -> Image.Image:
    """Convert a picture that has an ICC profile, as `ImageCms.profileToProfile` does.

    The rendering intent is perceptual, `ImageCms`' default. Alpha stays.

    Returns:
        A picture of mode `RGB` or `RGBA`; one without a profile as it is.

    Raises:
        InvalidImageError: The profile is damaged, too large, or for pictures of another kind.
    """
    profile = picture.info.get("icc_profile")
    if profile is None:
        return picture
    try:
        converted = _convert(picture, profile)
    # Little CMS reads what came from outside, and ImageCms wraps only some of its errors.
    except Exception as error:
        reason = str(error)
    else:
        return converted
    raise InvalidImageError(
        f"the picture's ICC profile cannot be applied ({reason}): send the picture in sRGB"
    )


def _convert(picture: Image.Image, profile: bytes) -> Image.Image:
    if len(profile) > MAX_PROFILE_BYTES:
        raise ValueError(f"it has {len(profile)} bytes, over the limit of {MAX_PROFILE_BYTES}")
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    space = source.profile.xcolor_space.strip()
    gray = picture.mode in {"1", "L", "LA"} or picture.mode.startswith("I;16")
    if space not in _MODES_OF_SPACES or (space == "CMYK") != (picture.mode == "CMYK"):
        raise ValueError(f"it is for {space}, and the picture is {picture.mode}")
    if space == "GRAY" and not gray:
        raise ValueError(f"it is for grayscale, and the picture is {picture.mode}")
    picture = _in_eight_bits(picture)
    alpha = None
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        alpha = picture.getchannel("A")
    transform = ImageCms.buildTransform(
        source, ImageCms.createProfile("sRGB"), _MODES_OF_SPACES[space], "RGB"
    )
    converted = transform.apply(picture.convert(_MODES_OF_SPACES[space]))
    if alpha is not None:
        converted.putalpha(alpha)
    return converted


def _in_eight_bits(picture: Image.Image) -> Image.Image:
    if not picture.mode.startswith("I;16"):
        return picture
    # Pillow's own conversion clips 16-bit values at 255, which turns most pictures white.
    return Image.fromarray((np.asarray(picture).astype(np.uint16) >> 8).astype(np.uint8))
