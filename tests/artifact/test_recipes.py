"""Every recipe gives, bit for bit, what the library gives that it is named after."""

import io

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps
from pydantic import ValidationError

from convd.artifact.decoding import decode_image
from convd.artifact.errors import InvalidImageError
from convd.artifact.preprocessing import Letterbox, Preprocessing, ResizeTo, prepare_image
from tests.artifact.odd_pictures import (
    cmyk_profile,
    encoded,
    odd_files,
    random_picture,
    rgb_profile,
)
from tests.artifact.recipe_references import REFERENCES

FILES = dict(odd_files())
MODES = ["L", "RGB", "RGBA", "P", "CMYK", "1", "LA", "I;16"]


def test_there_are_more_than_fifty() -> None:
    assert len(FILES) >= 50


@pytest.mark.parametrize("name", REFERENCES)
def test_an_odd_picture_gives_the_pixels_of_the_reference(name: str) -> None:
    reference = REFERENCES[name]
    for file, data in FILES.items():
        # Pillow's own decoding, so that nothing is taken from convd.
        expected = reference.pixels(Image.open(io.BytesIO(data)))
        assert (prepare_image(decode_image(data), reference.recipe) == expected).all(), file


@pytest.mark.parametrize("name", REFERENCES)
def test_upright_pictures_give_the_pixels_of_the_reference(name: str) -> None:
    reference = REFERENCES[name]
    recipe = reference.recipe.model_copy(update={"apply_exif_orientation": True})
    for orientation in range(1, 9):
        data = FILES[f"EXIF {orientation}"]
        expected = reference.pixels(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
        assert (prepare_image(decode_image(data), recipe) == expected).all(), orientation


@pytest.mark.parametrize("name", REFERENCES)
@given(width=st.integers(1, 90), height=st.integers(1, 90), mode=st.sampled_from(MODES))
def test_every_size_and_mode_gives_the_pixels_of_the_reference(
    name: str, width: int, height: int, mode: str
) -> None:
    recipe, picture = REFERENCES[name].recipe, random_picture(width, height, mode)
    prepared = prepare_image(picture, recipe)
    assert prepared.shape == recipe.output_shape
    assert prepared.dtype == np.uint8
    assert prepared.flags.c_contiguous
    assert (prepared == REFERENCES[name].pixels(picture)).all()


@given(
    width=st.integers(1, 60), height=st.integers(1, 60),
    new_width=st.integers(1, 60), new_height=st.integers(1, 60), mode=st.sampled_from(["L", "RGB"]),
)  # fmt: skip
def test_opencvs_arithmetic_is_exact_between_any_two_sizes(
    width: int, height: int, new_width: int, new_height: int, mode: str
) -> None:
    picture = random_picture(width, height, mode)
    recipe = Preprocessing(
        resize=ResizeTo(height=new_height, width=new_width),
        interpolation="opencv_bilinear",
        channel_order="L" if mode == "L" else "RGB",
    )
    expected = cv2.resize(np.asarray(picture), (new_width, new_height))
    assert (prepare_image(picture, recipe).squeeze() == expected.squeeze()).all()


def test_steps_follow_each_other_in_the_order_of_the_recipe() -> None:
    """Turned gray and inverted first; then cut, scaled and filled with the colour as it is."""
    picture = random_picture(60, 20, "RGBA")
    recipe = Preprocessing(
        resize=Letterbox(height=24, width=24, color=(200, 0, 50)),
        background=(255, 255, 255),
        grayscale=True,
        invert=True,
        crop_share=0.5,
    )
    white = Image.new("RGBA", picture.size, "white")
    laid = Image.alpha_composite(white, picture).convert("L")
    inverted = ImageOps.invert(laid).convert("RGB").crop((15, 5, 45, 15))
    expected = ImageOps.pad(inverted, (24, 24), Image.Resampling.BILINEAR, (200, 0, 50))
    assert (prepare_image(picture, recipe) == np.asarray(expected)).all()


def test_without_its_step_alpha_and_profile_change_nothing() -> None:
    recipe = Preprocessing(resize=ResizeTo(height=48, width=37))
    for file in ("profile and alpha", "profile, PNG", "profile, JPEG", "CMYK profile"):
        decoded = decode_image(FILES[file])
        plain = Image.open(io.BytesIO(FILES[file])).convert("RGB")
        plain = plain.resize((37, 48), Image.Resampling.BILINEAR)
        assert (prepare_image(decoded, recipe) == np.asarray(plain)).all()


@pytest.mark.parametrize(
    ("picture", "profile", "reason"),
    [
        (random_picture(8, 8, "RGB"), b"no profile", "cannot open profile"),
        (random_picture(8, 8, "RGB"), rgb_profile()[:200], "cannot open profile"),
        (random_picture(8, 8, "RGB"), cmyk_profile(), "for CMYK, and the picture is RGB"),
        (random_picture(8, 8, "L"), cmyk_profile(), "for CMYK, and the picture is L"),
        (random_picture(8, 8, "CMYK"), rgb_profile(), "for RGB, and the picture is CMYK"),
    ],
)  # fmt: skip
def test_a_profile_that_cannot_be_applied_is_refused_where_it_counts(
    picture: Image.Image, profile: bytes, reason: str
) -> None:
    recipe = Preprocessing(resize=ResizeTo(height=8, width=8))
    decoded = decode_image(encoded(picture, "JPEG", icc_profile=profile))
    prepare_image(decoded, recipe)
    with pytest.raises(InvalidImageError, match=f"ICC profile.*{reason}.*in sRGB"):
        prepare_image(decoded, recipe.model_copy(update={"apply_icc_profile": True}))


def test_a_damaged_profile_in_a_png_is_refused_where_it_counts() -> None:
    whole = encoded(random_picture(8, 8, "RGB"), "PNG", icc_profile=rgb_profile())
    at = whole.index(b"iCCP") + 40
    decoded = decode_image(whole[:at] + b"\0\0\0\0\0\0" + whole[at + 6 :])
    recipe = Preprocessing(resize=ResizeTo(height=8, width=8), apply_icc_profile=True)
    with pytest.raises(InvalidImageError, match="ICC profile"):
        prepare_image(decoded, recipe)


def test_padding_that_would_make_a_picture_huge_is_refused() -> None:
    recipe = REFERENCES["pad to square"].recipe
    with pytest.raises(InvalidImageError, match="less elongated"):
        prepare_image(Image.new("L", (60_000, 1)), recipe)


def test_a_manifest_of_before_means_what_it_meant() -> None:
    old = {"resize": {"kind": "fixed", "height": 4, "width": 6}, "interpolation": "bicubic"}
    recipe = Preprocessing.model_validate(old)
    assert recipe == Preprocessing(resize=ResizeTo(height=4, width=6), interpolation="bicubic")
    assert (recipe.background, recipe.crop_share) == (None, None)
    assert {recipe.apply_icc_profile, recipe.grayscale, recipe.invert} == {False}


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("resize", {"kind": "seam_carving", "size": 4}, "'shorter_side', 'fixed', 'letterbox'"),
        ("resize", {"kind": "letterbox", "height": 4}, "width"),
        ("interpolation", "spline", "'bilinear'"),
        ("background", [0, 0, 256], "less than or equal to 255"),
        ("crop_share", 1.5, "less than or equal to 1"),
        ("crop_share", 0, "greater than 0"),
        ("sharpen", True, "not permitted"),
    ],
)
def test_what_a_manifest_may_not_say_is_refused(field: str, value: object, message: str) -> None:
    values = {"resize": {"kind": "fixed", "height": 4, "width": 6}, field: value}
    with pytest.raises(ValidationError, match=message):
        Preprocessing.model_validate(values)
