"""Resizing and cropping give, bit for bit, what torchvision gives on the same picture."""

import io
import itertools
import warnings
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image, ImageOps

from convd.artifact.decoding import decode_image
from convd.artifact.preprocessing import (
    CenterCrop,
    ImageArray,
    Preprocessing,
    ResizeShorterSide,
    ResizeTo,
    prepare_image,
)
from tests.models import torchvision_oracle  # noqa: F401  makes torchvision importable

# isort: split
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as F  # noqa: N812

GENERATOR = np.random.default_rng(0)
INTERPOLATION = {"bilinear": InterpolationMode.BILINEAR, "bicubic": InterpolationMode.BICUBIC}
SIZES = [
    (1, 1), (1, 4000), (4000, 1), (2, 3), (7, 5), (31, 32), (32, 32), (33, 32), (47, 311),
    (100, 99), (224, 223), (255, 257), (640, 427), (427, 640), (1, 33), (500, 333),
]  # fmt: skip


def random_picture(width: int, height: int, mode: str) -> Image.Image:
    channels = {"L": 1, "RGB": 3, "RGBA": 4, "CMYK": 4}[mode]
    pixels = GENERATOR.integers(0, 256, (height, width, channels), dtype=np.uint8)
    return Image.fromarray(pixels.squeeze(2) if channels == 1 else pixels, mode)


def encoded(picture: Image.Image, image_format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, image_format, **options)
    return buffer.getvalue()


def odd_files() -> Iterator[tuple[str, bytes]]:
    """Fifty files of odd sizes and modes."""
    for width, height in SIZES:
        yield f"RGB PNG {width}x{height}", encoded(random_picture(width, height, "RGB"), "PNG")
        yield f"L JPEG {width}x{height}", encoded(random_picture(width, height, "L"), "JPEG")
    yield "CMYK JPEG", encoded(random_picture(61, 40, "CMYK"), "JPEG")
    sixteen_bits = GENERATOR.integers(0, 65536, (33, 57), dtype=np.uint16)
    yield "16-bit PNG", encoded(Image.fromarray(sixteen_bits), "PNG")
    yield "RGBA PNG", encoded(random_picture(50, 70, "RGBA"), "PNG")
    yield "LA PNG", encoded(random_picture(50, 70, "RGBA").convert("LA"), "PNG")
    yield "1-bit PNG", encoded(random_picture(40, 41, "L").convert("1"), "PNG")
    palette = random_picture(60, 45, "RGB").quantize(32)
    yield "palette", encoded(palette, "PNG")
    yield "palette, one transparent colour", encoded(palette, "PNG", transparency=3)
    alphas = bytes(range(0, 256, 8))
    yield "palette with transparency", encoded(palette, "PNG", transparency=alphas)
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        yield f"EXIF {orientation}", encoded(random_picture(90, 60, "RGB"), "JPEG", exif=exif)
    yield "WebP", encoded(random_picture(64, 65, "RGB"), "WEBP")
    yield "BMP", encoded(random_picture(66, 63, "RGB"), "BMP")


FILES = dict(odd_files())
RECIPES = [
    Preprocessing(
        resize=ResizeShorterSide(size=32),
        center_crop=CenterCrop(height=28, width=24),
        apply_exif_orientation=True,
    ),
    Preprocessing(resize=ResizeShorterSide(size=20), center_crop=CenterCrop(height=31, width=36)),
    Preprocessing(resize=ResizeTo(height=29, width=41), channel_order="L"),
]


def test_there_are_fifty() -> None:
    assert len(FILES) == 50


@pytest.mark.parametrize("name", FILES)
def test_the_same_picture_gives_the_same_array(name: str) -> None:
    picture = decode_image(FILES[name])
    for recipe, interpolation in itertools.product(RECIPES, INTERPOLATION):
        recipe = recipe.model_copy(update={"interpolation": interpolation})
        prepared = prepare_image(picture, recipe)
        assert (prepared == by_torchvision(picture, recipe)).all(), recipe


def by_torchvision(picture: Image.Image, recipe: Preprocessing) -> ImageArray:
    if recipe.apply_exif_orientation:
        picture = ImageOps.exif_transpose(picture)
    if picture.mode.startswith("I;16"):
        # torchvision takes 8 bits only; these are the upper ones.
        picture = Image.fromarray((np.asarray(picture) // 256).astype(np.uint8))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        picture = picture.convert("L" if recipe.channel_order == "L" else "RGB")
    if isinstance(recipe.resize, ResizeTo):
        size = [recipe.resize.height, recipe.resize.width]
    else:
        size = [recipe.resize.size]
    picture = F.resize(picture, size, INTERPOLATION[recipe.interpolation], antialias=True)
    if recipe.center_crop is not None:
        crop = [recipe.center_crop.height, recipe.center_crop.width]
        picture = F.center_crop(picture, crop)
    return np.array(picture).reshape(recipe.output_shape)
