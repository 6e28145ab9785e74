"""The footprint is an upper bound of what the process really takes."""

import ctypes
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from convd.artifact.decoding import decode_image, picture_from_pixels, read_header
from convd.artifact.footprint import footprint_of_file, footprint_of_pixels
from convd.artifact.preprocessing import (
    CenterCrop,
    Letterbox,
    PadToSquare,
    Preprocessing,
    ResizeShorterSide,
    ResizeTo,
    prepare_image,
)
from tests.artifact.formats.pictures import drawn, encoded, interlaced_png
from tests.artifact.formats.test_decoding import KINDS
from tests.artifact.odd_pictures import cmyk_profile, gray_profile, rgb_profile

pytestmark = pytest.mark.slow

RECIPES = {
    "photo": Preprocessing(
        resize=ResizeShorterSide(size=256), center_crop=CenterCrop(height=224, width=224)
    ),
    "upright": Preprocessing(resize=ResizeTo(height=224, width=224), apply_exif_orientation=True),
    "gray": Preprocessing(resize=ResizeTo(height=28, width=28), channel_order="L"),
}
FIXED = ResizeTo(height=224, width=224)
STEPS = {
    "alpha": Preprocessing(resize=FIXED, background=(255, 255, 255)),
    "profile": Preprocessing(resize=FIXED, apply_icc_profile=True, background=(0, 0, 0)),
    "grayscale": Preprocessing(resize=FIXED, grayscale=True, invert=True, crop_share=0.99),
    "OpenCV": Preprocessing(resize=FIXED, interpolation="opencv_bilinear"),
    "letterbox": Preprocessing(resize=Letterbox(height=2000, width=2500)),
    "pad": Preprocessing(resize=PadToSquare(size=2500)),
}
PROFILES = {"RGBA": rgb_profile(), "CMYK": cmyk_profile(), "L": gray_profile()}
SLACK_BYTES = 1024 * 1024
"""Pages that the process touches for other reasons."""


def peak_bytes(work: Callable[[], object]) -> int:
    """How much the resident memory grew, at most, while something was done."""
    # What was freed is given back, so that it does not hide what is taken.
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    before = _status_bytes("VmRSS")
    work()
    return _status_bytes("VmHWM") - before


def _status_bytes(name: str) -> int:
    found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


def check(data: bytes, recipe: Preprocessing) -> tuple[int, int]:
    footprint = footprint_of_file(read_header(data), recipe)
    prepare_image(decode_image(data), recipe)
    taken = peak_bytes(lambda: prepare_image(decode_image(data), recipe))
    assert taken <= footprint + SLACK_BYTES
    return taken, footprint


@pytest.fixture(scope="module", params=KINDS, ids=lambda kind: f"{kind[1]}-{kind[0]}-{kind[2]}")
def file(request: pytest.FixtureRequest) -> bytes:
    """A file of each kind, encoded once for all recipes."""
    mode, image_format, options = request.param
    return encoded(drawn(2000, 1500, mode), image_format, **options)


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_file_takes_no_more_than_its_footprint(file: bytes, recipe: str) -> None:
    taken, footprint = check(file, RECIPES[recipe])
    # A bound of ten times the truth would let nobody in.
    assert footprint <= 4 * taken + 8 * SLACK_BYTES


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("mode", PROFILES)
def test_no_step_takes_more_than_its_footprint(step: str, mode: str) -> None:
    image_format = "JPEG" if mode == "CMYK" else "PNG"
    data = encoded(drawn(2000, 1500, mode), image_format, icc_profile=PROFILES[mode])
    check(data, STEPS[step])


@pytest.mark.parametrize(
    ("width", "height"), [(8000, 300), (300, 8000), (65_000, 20), (20, 65_000)]
)
@pytest.mark.parametrize("image_format", ["PNG", "JPEG", "BMP"])
def test_elongated_pictures_keep_to_it_too(image_format: str, width: int, height: int) -> None:
    check(encoded(drawn(width, height), image_format), RECIPES["upright"])


def test_an_interlaced_png_keeps_to_it_too() -> None:
    check(interlaced_png(np.asarray(drawn(2000, 1500, "L"))), RECIPES["photo"])


@pytest.mark.parametrize("channels", [1, 3])
def test_raw_pixels_take_no_more_than_their_footprint(channels: int) -> None:
    recipe = RECIPES["photo"]
    data = bytes(1500 * 2000 * channels)
    size = {"height": 1500, "width": 2000, "channels": channels}
    taken = peak_bytes(lambda: prepare_image(picture_from_pixels(data, **size), recipe))
    assert taken <= footprint_of_pixels(1500, 2000, channels, recipe) + SLACK_BYTES
