"""From a picture to the uint8 array that the network takes.

Training, export and the service all use this module, so they cannot drift apart. What it does to a
picture is, bit for bit, what the library does that each class and field names: torchvision on
Pillow's pictures, Pillow itself, or OpenCV.
"""

from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from pydantic import Field, PositiveInt, model_validator

from convd.artifact.colors import composited, to_mode, to_srgb
from convd.artifact.errors import InvalidImageError
from convd.artifact.frozen import FrozenModel
from convd.artifact.resizing import (
    Letterbox,
    PadToSquare,
    ResizeKind,
    ResizeShorterSide,
    ResizeSizes,
    ResizeTo,
)
from convd.artifact.scaling import MAX_SCALED_PIXELS, Color, ImageSize, Interpolation

__all__ = [
    "CenterCrop",
    "ChannelOrder",
    "Color",
    "ImageArray",
    "ImageSize",
    "Interpolation",
    "Letterbox",
    "PadToSquare",
    "Preprocessing",
    "ResizeKind",
    "ResizeShorterSide",
    "ResizeTo",
    "prepare_image",
    "sizes_of",
]

ImageArray = NDArray[np.uint8]
"""One prepared image: uint8 `[height, width, channels]`."""

ChannelOrder = Literal["RGB", "BGR", "L"]

MAX_INPUT_PIXELS = 16 * 1024 * 1024
"""Largest input of a network, height x width: 4096 x 4096."""


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

    def box(self, width: int, height: int) -> tuple[int, int, int, int]:
        """Left, top, right and bottom of what is cut out; it may lie outside of the picture."""
        if self.rounding == "down":
            left, top = (width - self.width) // 2, (height - self.height) // 2
        else:
            # A picture that is too small is padded first, with the odd pixel behind it.
            left = _half_even(width, self.width)
            top = _half_even(height, self.height)
        return left, top, left + self.width, top + self.height


def _half_even(side: int, cut: int) -> int:
    return round((side - cut) / 2) if side >= cut else -((cut - side) // 2)


class Preprocessing(FrozenModel):
    """The recipe from a decoded picture to the network's input, in the order of its steps.

    Attributes:
        apply_exif_orientation: Turn the picture upright, as its EXIF tag says.
        apply_icc_profile: Convert a picture with an ICC profile to sRGB, as Pillow's `ImageCms`.
        background: The colour that a picture with alpha is laid on; None drops the alpha.
        grayscale: Turn the picture gray, in as many equal channels as there are: torchvision's
            `Grayscale`.
        invert: Make light of dark, as `ImageOps.invert`.
        crop_share: What is kept of each side, from the middle, before the picture is scaled: as
            `tf.image.central_crop`; None keeps all.
        resize: How the picture is scaled.
        interpolation: The resampling filter.
        center_crop: What to cut out after scaling; None keeps everything.
        channel_order: `RGB`, `BGR`, or `L` for one grayscale channel.
    """

    resize: ResizeKind
    center_crop: CenterCrop | None = None
    interpolation: Interpolation = "bilinear"
    channel_order: ChannelOrder = "RGB"
    apply_exif_orientation: bool = False
    apply_icc_profile: bool = False
    background: Color | None = None
    grayscale: bool = False
    invert: bool = False
    crop_share: Annotated[float, Field(gt=0, le=1)] | None = None

    @model_validator(mode="after")
    def _size_is_known(self) -> "Preprocessing":
        if self.center_crop is None and self.resize.output_size is None:
            raise ValueError(
                "resizing the shorter side leaves pictures of different sizes: add a center_crop, "
                "or resize to a fixed height and width"
            )
        return self

    @model_validator(mode="after")
    def _size_is_bounded(self) -> "Preprocessing":
        height, width = self.output_size
        # A square picture is scaled to the fewest pixels.
        final = self.resize.sizes(1, 1).final
        if height * width > MAX_INPUT_PIXELS or final.height * final.width > MAX_SCALED_PIXELS:
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
        size = self.resize.output_size
        if size is None:
            raise AssertionError("refused by validation")
        return size

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
        InvalidImageError: The picture's EXIF data or ICC profile is damaged, or it is so elongated
            that padding it, or scaling its shorter side, would make it huge.
    """
    if recipe.apply_exif_orientation:
        picture = _upright(picture)
    picture = _colors(picture, recipe)
    if recipe.crop_share is not None:
        picture = picture.crop(central_box(*picture.size, recipe.crop_share))
    picture = recipe.resize.apply(picture, recipe.interpolation)
    if recipe.center_crop is not None:
        picture = _cut_center(picture, recipe.center_crop)
    pixels = np.array(picture, dtype=np.uint8)
    if recipe.channel_order == "L":
        return pixels[:, :, np.newaxis]
    if recipe.channel_order == "BGR":
        return np.ascontiguousarray(pixels[:, :, ::-1])
    return pixels


def picture_of(image: ImageArray, order: ChannelOrder) -> Image.Image:
    """A prepared image as a picture to look at, of mode `L` or `RGB`.

    Args:
        image: uint8 `[height, width, channels]`.
        order: The order of its channels.
    """
    pixels = image[:, :, 0] if order == "L" else image[:, :, ::-1] if order == "BGR" else image
    return Image.fromarray(np.ascontiguousarray(pixels))


def sizes_of(width: int, height: int, recipe: Preprocessing) -> ResizeSizes:
    """The sizes that a picture goes through, before anything is cut from its middle.

    Args:
        width: Columns of the picture, upright.
        height: Its rows.
        recipe: What to do with it.
    """
    if recipe.crop_share is not None:
        left, top, right, bottom = central_box(width, height, recipe.crop_share)
        width, height = right - left, bottom - top
    return recipe.resize.sizes(width, height)


def _upright(picture: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(picture)
    # Pillow reads EXIF lazily, and a damaged block makes its parser raise nearly anything.
    except Exception as error:
        raise InvalidImageError(
            "the picture's EXIF data is damaged: remove it or save the picture again"
        ) from error


def _colors(picture: Image.Image, recipe: Preprocessing) -> Image.Image:
    if recipe.apply_icc_profile:
        picture = to_srgb(picture)
    if recipe.background is not None:
        picture = composited(picture, recipe.background)
    gray = recipe.grayscale or recipe.channel_order == "L"
    picture = to_mode(picture, "L" if gray else "RGB")
    if recipe.invert:
        picture = ImageOps.invert(picture)
    if recipe.grayscale and recipe.channel_order != "L":
        picture = picture.convert("RGB")
    return picture


def central_box(width: int, height: int, share: float) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of what is kept of a picture."""
    left, top = int((width - width * share) / 2), int((height - height * share) / 2)
    return left, top, width - left, height - top


def _cut_center(picture: Image.Image, crop: CenterCrop) -> Image.Image:
    # Pillow pads with black where this begins before the picture or ends behind it.
    return picture.crop(crop.box(*picture.size))
