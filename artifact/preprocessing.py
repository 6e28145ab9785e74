"""From a picture to the uint8 array that the network takes.

Training, export and the service all use this module, so they cannot drift apart. Resizing and
cropping match torchvision's `Resize` and `CenterCrop` on the same PIL image bit for bit.
"""

from typing import Annotated, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from pydantic import Field, PositiveInt, model_validator

from convd.artifact.errors import InvalidImageError
from convd.artifact.frozen import FrozenModel

ImageArray = NDArray[np.uint8]
"""One prepared image: uint8 `[height, width, channels]`."""

ChannelOrder = Literal["RGB", "BGR", "L"]

_RESAMPLING = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}


MAX_SCALED_PIXELS = 64 * 1024 * 1024
"""Largest picture that scaling may produce: one of 1 x 60,000 pixels would grow to gigabytes."""


MAX_INPUT_PIXELS = 16 * 1024 * 1024
"""Largest input of a network, height x width: 4096 x 4096."""


class ImageSize(NamedTuple):
    """Height and width in pixels."""

    height: int
    width: int


class ResizeShorterSide(FrozenModel):
    """Scale so that the shorter side has `size` pixels, keeping the aspect ratio."""

    kind: Literal["shorter_side"] = "shorter_side"
    size: PositiveInt


class ResizeTo(FrozenModel):
    """Scale to exactly `height` x `width` pixels, ignoring the aspect ratio."""

    kind: Literal["fixed"] = "fixed"
    height: PositiveInt
    width: PositiveInt


class CenterCrop(FrozenModel):
    """Cut `height` x `width` pixels from the middle, padding with black where there are fewer.

    Attributes:
        height: Rows that are left.
        width: Columns that are left.
        rounding: Where to begin if the middle lies between two pixels: `half_even` as torchvision
            does, `down` as transformers does.
    """

    height: PositiveInt
    width: PositiveInt
    rounding: Literal["half_even", "down"] = "half_even"


class Preprocessing(FrozenModel):
    """The recipe from a decoded picture to the network's input.

    Attributes:
        resize: How the picture is scaled.
        center_crop: What to cut out after scaling; None keeps everything.
        interpolation: The resampling filter, always antialiased.
        channel_order: `RGB`, `BGR`, or `L` for one grayscale channel.
        apply_exif_orientation: Turn the picture upright first, as its EXIF tag says.
    """

    resize: Annotated[ResizeShorterSide | ResizeTo, Field(discriminator="kind")]
    center_crop: CenterCrop | None = None
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    channel_order: ChannelOrder = "RGB"
    apply_exif_orientation: bool = False

    @model_validator(mode="after")
    def _size_is_known(self) -> "Preprocessing":
        if self.center_crop is None and isinstance(self.resize, ResizeShorterSide):
            raise ValueError(
                "resizing the shorter side leaves pictures of different sizes: add a center_crop, "
                "or resize to a fixed height and width"
            )
        return self

    @model_validator(mode="after")
    def _size_is_bounded(self) -> "Preprocessing":
        height, width = self.output_size
        scaled = self.resize
        if isinstance(scaled, ResizeShorterSide):
            scaled_pixels = scaled.size**2
        else:
            scaled_pixels = scaled.height * scaled.width
        if height * width > MAX_INPUT_PIXELS or scaled_pixels > MAX_SCALED_PIXELS:
            raise ValueError(
                f"pictures would be prepared with more than {MAX_SCALED_PIXELS} pixels, or be cut "
                f"to more than {MAX_INPUT_PIXELS}: use a smaller size"
            )
        return self

    @property
    def output_size(self) -> ImageSize:
        """Height and width of every prepared image."""
        if self.center_crop is not None:
            return ImageSize(self.center_crop.height, self.center_crop.width)
        if isinstance(self.resize, ResizeShorterSide):
            raise AssertionError("refused by validation")
        return ImageSize(self.resize.height, self.resize.width)

    @property
    def channels(self) -> int:
        """Channels of every prepared image: 1 or 3."""
        return 1 if self.channel_order == "L" else 3

    @property
    def output_shape(self) -> tuple[int, int, int]:
        """Shape of every prepared image, `(height, width, channels)`."""
        return (*self.output_size, self.channels)


def prepare_image(picture: Image.Image, recipe: Preprocessing) -> ImageArray:
    """Turn a decoded picture into the network's input.

    Args:
        picture: Any picture, such as `convd.artifact.decoding.decode_image` returns.
        recipe: What to do.

    Returns:
        uint8 `[height, width, channels]`, C-contiguous, of shape `recipe.output_shape`.

    Raises:
        InvalidImageError: The picture's EXIF data is damaged, or it is so elongated that scaling
            its shorter side would make it huge.
    """
    if recipe.apply_exif_orientation:
        picture = _upright(picture)
    picture = _to_mode(picture, "L" if recipe.channel_order == "L" else "RGB")
    size = scaled_size(picture.width, picture.height, recipe)
    if size.height * size.width > MAX_SCALED_PIXELS:
        raise InvalidImageError(
            f"a picture of {picture.width} x {picture.height} would become {size.width} x "
            f"{size.height} pixels: send one that is less elongated"
        )
    if picture.size != (size.width, size.height):
        picture = picture.resize((size.width, size.height), _RESAMPLING[recipe.interpolation])
    if recipe.center_crop is not None:
        picture = _cut_center(picture, recipe.center_crop)
    pixels = np.array(picture, dtype=np.uint8)
    if recipe.channel_order == "L":
        return pixels[:, :, np.newaxis]
    if recipe.channel_order == "BGR":
        return np.ascontiguousarray(pixels[:, :, ::-1])
    return pixels


def scaled_size(width: int, height: int, recipe: Preprocessing) -> ImageSize:
    """The size of a picture after scaling, before anything is cut from it.

    Args:
        width: Columns of the picture, upright.
        height: Its rows.
        recipe: What to do with it.
    """
    if isinstance(recipe.resize, ResizeTo):
        return ImageSize(recipe.resize.height, recipe.resize.width)
    size = recipe.resize.size
    # Truncate rather than round, as torchvision does for the longer side.
    if width <= height:
        return ImageSize(int(size * height / width), size)
    return ImageSize(size, int(size * width / height))


def _upright(picture: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(picture)
    # Pillow reads EXIF lazily, and a damaged block makes its parser raise nearly anything.
    except Exception as error:
        raise InvalidImageError(
            "the picture's EXIF data is damaged: remove it or save the picture again"
        ) from error


def _to_mode(picture: Image.Image, mode: Literal["L", "RGB"]) -> Image.Image:
    if picture.mode.startswith("I;16"):
        # Pillow's own conversion clips 16-bit values at 255, which turns most pictures white.
        high_bytes = (np.asarray(picture).astype(np.uint16) >> 8).astype(np.uint8)
        picture = Image.fromarray(high_bytes)
    if picture.mode == "P" and isinstance(picture.info.get("transparency"), bytes):
        # Converting straight to RGB makes Pillow warn about palettes with transparent colours.
        picture = picture.convert("RGBA")
    return picture if picture.mode == mode else picture.convert(mode)


def _cut_center(picture: Image.Image, crop: CenterCrop) -> Image.Image:
    width, height = picture.size
    if crop.rounding == "down":
        # Pillow pads with black where this begins before the picture or ends behind it.
        left, top = (width - crop.width) // 2, (height - crop.height) // 2
        return picture.crop((left, top, left + crop.width, top + crop.height))
    if width < crop.width or height < crop.height:
        missing_width = max(crop.width - width, 0)
        missing_height = max(crop.height - height, 0)
        padded = Image.new(picture.mode, (width + missing_width, height + missing_height))
        padded.paste(picture, (missing_width // 2, missing_height // 2))
        picture = padded
        width, height = picture.size
    left = round((width - crop.width) / 2)
    top = round((height - crop.height) / 2)
    return picture.crop((left, top, left + crop.width, top + crop.height))
