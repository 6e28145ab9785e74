"""Recipes, each with what the library that it is named after makes of a picture."""

import io
from collections.abc import Callable
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image, ImageCms, ImageOps

from convd.artifact.preprocessing import (
    CenterCrop,
    ImageArray,
    Interpolation,
    Letterbox,
    PadToSquare,
    Preprocessing,
    ResizeShorterSide,
    ResizeTo,
)
from tests.models import torchvision_oracle  # noqa: F401  makes torchvision importable

# isort: split
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as F  # noqa: N812

GRAY, PINK = (114, 114, 114), (250, 10, 128)
SQUARE = ResizeTo(height=29, width=41)


class Reference(NamedTuple):
    """A recipe, and another way to the same pixels.

    Attributes:
        recipe: The recipe.
        prepare: From a picture to an RGB picture, or to a grayscale one.
    """

    recipe: Preprocessing
    prepare: Callable[[Image.Image], Image.Image]

    def pixels(self, picture: Image.Image) -> ImageArray:
        """What the network should get."""
        pixels = np.array(self.prepare(picture)).reshape(self.recipe.output_shape)
        return pixels[..., ::-1] if self.recipe.channel_order == "BGR" else pixels


def rgb(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith("I;16"):
        # The libraries take 8 bits only; these are the upper ones.
        picture = Image.fromarray((np.asarray(picture) // 256).astype(np.uint8))
    if picture.mode == "P" and "transparency" in picture.info:
        picture = picture.convert("RGBA")
    return picture.convert("RGB")


def gray(picture: Image.Image) -> Image.Image:
    if picture.mode == "P" and "transparency" in picture.info:
        picture = picture.convert("RGBA")
    return rgb(picture) if picture.mode.startswith("I;16") else picture.convert("L")


def resized(picture: Image.Image) -> Image.Image:
    scaled: Image.Image = F.resize(picture, [SQUARE.height, SQUARE.width], antialias=True)
    return scaled


def scaled_by(name: str) -> Callable[[Image.Image], Image.Image]:
    return lambda picture: F.resize(rgb(picture), [29, 41], InterpolationMode(name))


def shorter_side_by(name: str) -> Callable[[Image.Image], Image.Image]:
    def prepare(picture: Image.Image) -> Image.Image:
        scaled = F.resize(rgb(picture), [24], InterpolationMode(name))
        cut: Image.Image = F.center_crop(scaled, [22, 20])
        return cut

    return prepare


def letterboxed(
    height: int, width: int, color: tuple[int, int, int], method: Image.Resampling
) -> Callable[[Image.Image], Image.Image]:
    return lambda picture: ImageOps.pad(rgb(picture), (width, height), method, color)


def squared(picture: Image.Image) -> Image.Image:
    picture = rgb(picture)
    side = max(picture.size)
    left, top = (side - picture.width) // 2, (side - picture.height) // 2
    padding = [left, top, side - picture.width - left, side - picture.height - top]
    scaled: Image.Image = F.resize(F.pad(picture, padding, fill=GRAY), [32, 32])
    return scaled


def squared_gray(picture: Image.Image) -> Image.Image:
    picture = gray(picture).convert("L")
    side = max(picture.size)
    left, top = (side - picture.width) // 2, (side - picture.height) // 2
    padding = [left, top, side - picture.width - left, side - picture.height - top]
    scaled: Image.Image = F.resize(F.pad(picture, padding, fill=114), [32, 32])
    return scaled


def share_kept(picture: Image.Image) -> Image.Image:
    """The arithmetic of `tf.image.central_crop`, cut by torchvision."""
    picture = rgb(picture)
    top = int((picture.height - picture.height * 0.875) / 2)
    left = int((picture.width - picture.width * 0.875) / 2)
    height, width = picture.height - 2 * top, picture.width - 2 * left
    scaled: Image.Image = F.resized_crop(
        picture, top, left, height, width, [SQUARE.height, SQUARE.width]
    )
    return scaled


def by_opencv(picture: Image.Image) -> Image.Image:
    return Image.fromarray(cv2.resize(np.asarray(rgb(picture)), (41, 29)))


def by_opencv_gray(picture: Image.Image) -> Image.Image:
    return Image.fromarray(cv2.resize(np.asarray(gray(picture).convert("L")), (41, 29)))


def on_pink(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith("I;16"):
        picture = rgb(picture)
    picture = picture.convert("RGBA")
    canvas = Image.new("RGB", picture.size, PINK)
    canvas.paste(picture, mask=picture.getchannel("A"))
    return resized(canvas)


def in_srgb(picture: Image.Image) -> Image.Image:
    profile = picture.info.get("icc_profile")
    picture = picture if picture.mode in ("L", "CMYK") and profile else rgb(picture)
    if profile:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        target = ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(picture, source, target, outputMode="RGB")
        assert converted is not None
        picture = converted
    return resized(picture)


def recipe(interpolation: Interpolation = "bilinear", **others: object) -> Preprocessing:
    values = {"resize": SQUARE, "interpolation": interpolation, **others}
    return Preprocessing.model_validate(values)


NEW_FILTERS: tuple[Interpolation, ...] = ("nearest", "box", "hamming", "lanczos")
SHORTER_SIDE = {
    "resize": ResizeShorterSide(size=24),
    "center_crop": CenterCrop(height=22, width=20),
}
REFERENCES = {
    **{name: Reference(recipe(name), scaled_by(name)) for name in NEW_FILTERS},
    **{
        f"{name}, shorter side": Reference(recipe(name, **SHORTER_SIDE), shorter_side_by(name))
        for name in NEW_FILTERS
    },
    "OpenCV": Reference(recipe("opencv_bilinear"), by_opencv),
    "OpenCV, BGR": Reference(recipe("opencv_bilinear", channel_order="BGR"), by_opencv),
    "OpenCV, L": Reference(recipe("opencv_bilinear", channel_order="L"), by_opencv_gray),
    "letterbox": Reference(
        recipe("bicubic", resize=Letterbox(height=32, width=32, color=GRAY)),
        letterboxed(32, 32, GRAY, Image.Resampling.BICUBIC),
    ),
    "letterbox, rectangle": Reference(
        recipe(resize=Letterbox(height=21, width=40, color=PINK)),
        letterboxed(21, 40, PINK, Image.Resampling.BILINEAR),
    ),
    "pad to square": Reference(recipe(resize=PadToSquare(size=32, color=GRAY)), squared),
    "pad to square, L": Reference(
        recipe(resize=PadToSquare(size=32, color=GRAY), channel_order="L"), squared_gray
    ),
    "crop share": Reference(recipe(crop_share=0.875), share_kept),
    "alpha": Reference(recipe(background=PINK), on_pink),
    "ICC profile": Reference(recipe(apply_icc_profile=True), in_srgb),
    "grayscale": Reference(
        recipe(grayscale=True), lambda picture: resized(gray(picture).convert("RGB"))
    ),
    "inversion": Reference(recipe(invert=True), lambda picture: resized(F.invert(rgb(picture)))),
    "inversion, L": Reference(
        recipe(invert=True, channel_order="L"),
        lambda picture: resized(ImageOps.invert(gray(picture).convert("L"))),
    ),
}
"""By name; pictures are not turned upright."""
