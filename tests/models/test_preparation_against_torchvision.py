"""Resizing and cropping give, bit for bit, what torchvision gives on the same picture."""

import itertools
import warnings

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
from tests.artifact.odd_pictures import odd_files
from tests.models import torchvision_oracle  # noqa: F401  makes torchvision importable

# isort: split
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as F  # noqa: N812

INTERPOLATION = {"bilinear": InterpolationMode.BILINEAR, "bicubic": InterpolationMode.BICUBIC}
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
        assert isinstance(recipe.resize, ResizeShorterSide)
        size = [recipe.resize.size]
    picture = F.resize(picture, size, INTERPOLATION[recipe.interpolation], antialias=True)
    if recipe.center_crop is not None:
        crop = [recipe.center_crop.height, recipe.center_crop.width]
        picture = F.center_crop(picture, crop)
    return np.array(picture).reshape(recipe.output_shape)
