import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError

from convd.artifact.decoding import decode_image, picture_from_pixels
from convd.artifact.errors import InvalidImageError
from convd.artifact.preprocessing import (
    CenterCrop,
    ChannelOrder,
    Preprocessing,
    ResizeShorterSide,
    ResizeTo,
    picture_of,
    prepare_image,
)

IMAGENET = Preprocessing(
    resize=ResizeShorterSide(size=16), center_crop=CenterCrop(height=14, width=12)
)


def encoded(image_format: str, size: tuple[int, int] = (20, 10), mode: str = "RGB") -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, size, 128).save(buffer, image_format)
    return buffer.getvalue()


@given(
    width=st.integers(1, 60),
    height=st.integers(1, 60),
    mode=st.sampled_from(["L", "RGB", "RGBA", "P", "CMYK", "1", "LA", "I;16"]),
    channel_order=st.sampled_from(["RGB", "BGR", "L"]),
    interpolation=st.sampled_from(["bilinear", "bicubic"]),
)
def test_every_picture_becomes_the_promised_shape(
    width: int, height: int, mode: str, channel_order: str, interpolation: str
) -> None:
    recipe = IMAGENET.model_copy(
        update={"channel_order": channel_order, "interpolation": interpolation}
    )
    prepared = prepare_image(Image.new(mode, (width, height)), recipe)
    assert prepared.shape == recipe.output_shape
    assert prepared.dtype == np.uint8
    assert prepared.flags.c_contiguous


def test_a_picture_of_the_right_size_is_left_as_it_is() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    recipe = Preprocessing(resize=ResizeTo(height=5, width=7))
    assert (prepare_image(Image.fromarray(pixels), recipe) == pixels).all()
    bgr = recipe.model_copy(update={"channel_order": "BGR"})
    assert (prepare_image(Image.fromarray(pixels), bgr) == pixels[:, :, ::-1]).all()


def test_sixteen_bits_are_scaled_and_not_clipped() -> None:
    picture = Image.fromarray(np.array([[0, 0x1234, 0xFFFF]], np.uint16))
    recipe = Preprocessing(resize=ResizeTo(height=1, width=3), channel_order="L")
    assert prepare_image(picture, recipe)[0, :, 0].tolist() == [0, 0x12, 0xFF]


def test_exif_orientation_is_followed_only_where_the_recipe_says_so() -> None:
    picture = Image.fromarray(np.array([[0, 255]], np.uint8))
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees
    picture.save(buffer, "PNG", exif=exif)
    stored = decode_image(buffer.getvalue())
    recipe = Preprocessing(resize=ResizeTo(height=2, width=1), channel_order="L")
    upright = recipe.model_copy(update={"apply_exif_orientation": True})
    assert prepare_image(stored, upright)[:, 0, 0].tolist() == [0, 255]
    assert prepare_image(stored, recipe)[:, 0, 0].tolist() != [0, 255]


def test_a_picture_that_scaling_would_make_huge_is_refused() -> None:
    recipe = Preprocessing(
        resize=ResizeShorterSide(size=256), center_crop=CenterCrop(height=224, width=224)
    )
    with pytest.raises(InvalidImageError, match="less elongated"):
        prepare_image(Image.new("L", (60_000, 1)), recipe)


@pytest.mark.parametrize(
    ("resize", "center_crop"),
    [
        (ResizeTo(height=2**31, width=2**31), None),
        (ResizeTo(height=8000, width=8000), None),
        (ResizeTo(height=4, width=6), CenterCrop(height=100_000, width=100_000)),
        (ResizeShorterSide(size=10**9), CenterCrop(height=4, width=6)),
    ],
)
def test_a_recipe_that_would_take_gigabytes_is_refused(
    resize: ResizeTo | ResizeShorterSide, center_crop: CenterCrop | None
) -> None:
    with pytest.raises(ValidationError, match="use a smaller size"):
        Preprocessing(resize=resize, center_crop=center_crop)


def test_a_recipe_without_a_known_size_is_refused() -> None:
    with pytest.raises(ValidationError, match="add a center_crop"):
        Preprocessing(resize=ResizeShorterSide(size=256))


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "BMP"])
def test_the_four_formats_are_decoded(image_format: str) -> None:
    assert decode_image(encoded(image_format)).size == (20, 10)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty"),
        (b"no image at all", "not an image that can be decoded"),
        (encoded("PNG")[:-30], "is damaged"),
        (encoded("JPEG")[:200], "no image|is damaged"),
        (encoded("GIF"), "a GIF: send it as JPEG or PNG"),
    ],
)
def test_what_is_no_image_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(InvalidImageError, match=message):
        decode_image(data)


def test_a_bomb_is_refused_before_it_is_unpacked() -> None:
    header = b"IHDR" + struct.pack(">IIBBBBB", 30_000, 30_000, 1, 0, 0, 0, 0)
    small = encoded("PNG", mode="1")
    bomb = small[:12] + header + struct.pack(">I", zlib.crc32(header)) + small[33:]
    with pytest.raises(InvalidImageError, match="30000 x 30000 pixels"):
        decode_image(bomb)


@given(data=st.binary(max_size=200), flip=st.integers(0, 10_000))
def test_damaged_bytes_never_raise_anything_else(data: bytes, flip: int) -> None:
    whole = bytearray(encoded("PNG"))
    whole[flip % len(whole)] ^= 0xFF
    for candidate in (data, bytes(whole)):
        try:
            decode_image(candidate)
        except InvalidImageError as error:
            assert "send" in str(error)


@pytest.mark.parametrize(
    ("shape", "length", "message"),
    [
        ((2, 2, 3), 11, "need 12 bytes, not 11"),
        ((2, 2, 4), 16, "4 channels"),
        ((0, 2, 3), 0, "at least 1"),
        ((-1, -12, 1), 12, "at least 1"),
        ((2**31 - 1, 2**31 - 1, 3), 12, "bytes, not 12"),
    ],
)
def test_pixels_that_do_not_fit_are_refused(
    shape: tuple[int, int, int], length: int, message: str
) -> None:
    height, width, channels = shape
    with pytest.raises(InvalidImageError, match=message):
        picture_from_pixels(bytes(length), height=height, width=width, channels=channels)


@pytest.mark.parametrize(("order", "mode"), [("RGB", "RGB"), ("BGR", "RGB"), ("L", "L")])
def test_a_prepared_image_can_be_looked_at(order: ChannelOrder, mode: str) -> None:
    picture = Image.effect_noise((5, 3), 90).convert("RGB")
    picture.putpixel((1, 2), (250, 120, 10))
    recipe = Preprocessing(channel_order=order, resize=ResizeTo(height=3, width=5))
    seen = picture_of(prepare_image(picture, recipe), order)
    assert (seen.mode, seen.size) == (mode, (5, 3))
    assert seen.tobytes() == picture.convert(mode).tobytes()
