"""A map fits the picture that was sent, whatever was done to prepare it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from convd.artifact.geometry import ORIENTATION_TAG, on_picture, orientation_of, place
from convd.artifact.preprocessing import CenterCrop, Preprocessing, prepare_image
from convd.artifact.resizing import Letterbox, PadToSquare, ResizeShorterSide, ResizeTo
from convd.artifact.scaling import ImageSize

RECIPES = {
    "fixed": Preprocessing(resize=ResizeTo(height=40, width=56)),
    "crop": Preprocessing(
        resize=ResizeShorterSide(size=48), center_crop=CenterCrop(height=40, width=40)
    ),
    "padded crop": Preprocessing(
        resize=ResizeTo(height=31, width=31), center_crop=CenterCrop(height=40, width=36)
    ),
    "crop, rounded down": Preprocessing(
        resize=ResizeShorterSide(size=47),
        center_crop=CenterCrop(height=40, width=40, rounding="down"),
    ),
    "letterbox": Preprocessing(resize=Letterbox(height=48, width=64)),
    "square": Preprocessing(resize=PadToSquare(size=52)),
    "share": Preprocessing(resize=ResizeTo(height=48, width=48), crop_share=0.7),
}
UPRIGHT = {
    name: recipe.model_copy(update={"apply_exif_orientation": True})
    for name, recipe in RECIPES.items()
}
ODD = [
    (int(width), int(height))
    for width, height in np.random.default_rng(7).integers(17, 400, (50, 2)) | 1
]


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("size", ODD, ids=str)
def test_a_spot_is_found_where_it_is_in_the_picture(name: str, size: tuple[int, int]) -> None:
    """Draw a bright disc, prepare the picture as serving does, and lay the pixels back over it."""
    width, height = size
    generator = np.random.default_rng(width * height)
    orientation = int(generator.integers(1, 9))
    recipe = UPRIGHT[name]
    radius = min(width, height) / 6
    y, x = np.mgrid[:height, :width] + 0.5
    # Near the middle, where no recipe cuts it off.
    centre = (
        width / 2 + generator.uniform(-0.1, 0.1) * min(width, height),
        height / 2 + generator.uniform(-0.1, 0.1) * min(width, height),
    )
    disc = (x - centre[0]) ** 2 + (y - centre[1]) ** 2 <= radius**2
    picture = Image.fromarray(np.repeat(np.uint8(255) * disc[..., None], 3, axis=2))
    picture.getexif()[ORIENTATION_TAG] = orientation
    prepared = prepare_image(picture, recipe)[:, :, 0].astype(np.float32)
    placement = place(width, height, recipe, orientation_of(picture))
    heat = np.nan_to_num(on_picture(prepared, placement))
    assert heat.shape == (height, width)
    found = ((heat * x).sum() / heat.sum(), (heat * y).sum() / heat.sum())
    # A prepared pixel may be several pixels of the picture.
    limit = 1 + 0.5 / min(placement.rows.scale, placement.columns.scale)
    assert abs(found[0] - centre[0]) < limit
    assert abs(found[1] - centre[1]) < limit


@given(
    st.sampled_from(sorted(UPRIGHT)),
    st.tuples(st.integers(1, 300), st.integers(1, 300)),
    st.integers(1, 8),
)
def test_what_is_cut_off_is_not_seen_and_all_else_is(
    name: str, size: tuple[int, int], orientation: int
) -> None:
    placement = place(*size, UPRIGHT[name], orientation)
    heat = on_picture(np.ones((3, 5), np.float32), placement)
    assert heat.shape == (size[1], size[0])
    assert np.all(np.isnan(heat) | (heat == 1))
    if name in ("fixed", "letterbox", "square"):
        assert not np.isnan(heat).any()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turning_is_undone(orientation: int) -> None:
    """With a recipe that does nothing else, the map of a picture is the picture."""
    pixels = np.random.default_rng(orientation).integers(0, 256, (6, 9), dtype=np.uint8)
    picture = Image.fromarray(pixels)
    picture.getexif()[ORIENTATION_TAG] = orientation
    height, width = (9, 6) if orientation > 4 else (6, 9)
    recipe = Preprocessing(
        resize=ResizeTo(height=height, width=width), channel_order="L", apply_exif_orientation=True
    )
    prepared = prepare_image(picture, recipe)[:, :, 0].astype(np.float32)
    found = on_picture(prepared, place(9, 6, recipe, orientation))
    assert np.array_equal(found, pixels)


def test_a_smaller_map_covers_the_same_picture() -> None:
    placement = place(301, 201, RECIPES["crop"])
    heat = np.linspace(0, 1, 49, dtype=np.float32).reshape(7, 7)
    small = on_picture(heat, placement, ImageSize(67, 100))
    assert small.shape == (67, 100)
    whole = on_picture(heat, placement)
    assert abs(np.nanmean(small) - np.nanmean(whole)) < 0.01
    assert abs(np.isnan(small).mean() - np.isnan(whole).mean()) < 0.02
