"""What decoding takes and gives, format by format, with Pillow's own decoding as the reference."""

import io
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from convd.artifact.decoding import decode_image, read_header
from convd.artifact.errors import InvalidImageError
from convd.artifact.formats.jpeg import MAX_SCANS
from tests.artifact.formats.pictures import (
    drawn,
    encoded,
    insert_before,
    interlaced_png,
    jpeg_with_scans,
    png_chunk,
    png_of_rows,
    run_length_bmp,
    webp_header,
)

KINDS: list[tuple[str, str, dict[str, Any]]] = [
    ("RGB", "JPEG", {}),
    ("L", "JPEG", {}),
    ("CMYK", "JPEG", {}),
    ("RGB", "JPEG", {"progressive": True}),
    ("RGB", "JPEG", {"subsampling": 0}),
    ("RGB", "JPEG", {"subsampling": 1, "restart_marker_blocks": 3}),
    ("RGB", "JPEG", {"keep_rgb": True}),
    ("CMYK", "JPEG", {"progressive": True}),
    ("1", "PNG", {}),
    ("L", "PNG", {}),
    ("LA", "PNG", {}),
    ("P", "PNG", {}),
    ("P", "PNG", {"bits": 2}),
    ("P", "PNG", {"transparency": 0}),
    ("I;16", "PNG", {}),
    ("RGB", "PNG", {}),
    ("RGBA", "PNG", {}),
    ("RGB", "WEBP", {}),
    ("RGBA", "WEBP", {}),
    ("RGB", "WEBP", {"lossless": True}),
    ("RGBA", "WEBP", {"lossless": True}),
    ("1", "BMP", {}),
    ("L", "BMP", {}),
    ("P", "BMP", {}),
    ("RGB", "BMP", {}),
    ("RGBA", "BMP", {}),
]


def refusal(data: bytes) -> str:
    """The text of a refusal, which must come."""
    with pytest.raises(InvalidImageError) as refused:
        decode_image(data)
    return str(refused.value)


@pytest.mark.parametrize(("mode", "image_format", "options"), KINDS)
@given(width=st.integers(1, 80), height=st.integers(1, 80))
def test_the_pixels_are_pillows_own(
    mode: str, image_format: str, options: dict[str, Any], width: int, height: int
) -> None:
    data = encoded(drawn(width, height, mode), image_format, **options)
    expected = Image.open(io.BytesIO(data))
    header = read_header(data)
    decoded = decode_image(data)
    assert (header.format, header.width, header.height) == (image_format, width, height)
    assert header.mode == decoded.mode == expected.mode
    assert (np.asarray(decoded) == np.asarray(expected)).all()
    assert (np.asarray(decoded.convert("RGB")) == np.asarray(expected.convert("RGB"))).all()


def test_an_interlaced_png_is_decoded_where_all_its_rows_are_there() -> None:
    pixels = np.arange(1, 36 * 7 + 1, dtype=np.uint8).reshape(36, 7)
    assert (np.asarray(decode_image(interlaced_png(pixels))) == pixels).all()
    assert "before its pixels do" in refusal(interlaced_png(pixels, rows_missing=1))


@pytest.mark.parametrize("name", [b"tEXt", b"zTXt", b"iTXt", b"iCCP", b"pHYs", b"gAMA", b"quUx"])
@pytest.mark.parametrize("place", [b"IDAT", b"IEND"])
def test_a_png_is_whole_whatever_is_beside_its_pixels(name: bytes, place: bytes) -> None:
    picture = drawn(20, 30, "RGB")
    plain = encoded(picture, "PNG")
    chunk = png_chunk(name, np.random.default_rng(0).bytes(2_000_000))
    damaged_chunk = png_chunk(name, b"Comment\0text", checksum=1)
    for candidate in (chunk, damaged_chunk):
        decoded = decode_image(insert_before(plain, place, candidate))
        assert (np.asarray(decoded) == np.asarray(picture)).all()


def test_a_png_without_its_end_is_whole_and_one_with_a_black_edge_too() -> None:
    picture = drawn(20, 30, "RGB")
    assert decode_image(encoded(picture, "PNG")[:-12]).size == (20, 30)
    picture.paste((0, 0, 0), (0, 20, 20, 30))
    decoded = decode_image(encoded(picture, "PNG"))
    assert (np.asarray(decoded) == np.asarray(picture)).all()


def test_a_png_with_missing_or_corrupt_pixels_is_refused() -> None:
    whole = encoded(drawn(50, 60), "PNG")
    start = whole.index(b"IDAT") + 4
    wrong_checksum = bytearray(whole)
    wrong_checksum[start + 100] ^= 1
    assert "IDAT has a wrong checksum" in refusal(bytes(wrong_checksum))
    assert "IDAT is cut" in refusal(whole[:-200])
    assert "before its pixels do" in refusal(png_of_rows(drawn(50, 60), 59))
    assert "before its pixels do" in refusal(png_of_rows(drawn(50, 60), 0))


def test_a_second_header_does_not_make_a_picture_larger_than_was_reckoned() -> None:
    whole = encoded(drawn(20, 30), "PNG")
    larger = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0))
    assert "two sizes" in refusal(insert_before(whole, b"IDAT", larger))
    jpeg = encoded(drawn(20, 30), "JPEG")
    start = jpeg.index(b"\xff\xc0")
    frame = jpeg[start : start + 19]
    larger = frame[:5] + struct.pack(">HH", 60_000, 60_000) + frame[9:]
    assert "damaged" in refusal(jpeg[:start] + larger + jpeg[start:])


def test_a_jpeg_with_missing_or_corrupt_pixels_is_refused() -> None:
    whole = encoded(drawn(300, 200), "JPEG", quality=85)
    assert "missing or corrupt" in refusal(whole[: len(whole) // 2])
    # An end was put where pixels should be, and Pillow answers with grey.
    assert "missing or corrupt" in refusal(whole[: len(whole) // 2] + b"\xff\xd9")
    for junk in (b"\xff\xd8", b"\xff\xd9", b"\xff\0", b"\1\2"):
        overwritten = bytearray(whole)
        overwritten[len(whole) // 2 : len(whole) // 2 + 40] = junk * 20
        assert "missing or corrupt" in refusal(bytes(overwritten))


def test_a_jpeg_with_padding_before_its_end_is_whole() -> None:
    whole = encoded(drawn(64, 48), "JPEG")
    padded = whole[:-2] + bytes(17) + whole[-2:]
    assert (np.asarray(decode_image(padded)) == np.asarray(decode_image(whole))).all()
    assert decode_image(whole + b"what a camera adds").size == (64, 48)


def test_orientation_is_kept_where_pillow_looks_for_it() -> None:
    picture = drawn(20, 10)
    exif = Image.Exif()
    exif[0x0112] = 6
    for image_format in ("JPEG", "PNG", "WEBP"):
        assert decode_image(encoded(picture, image_format, exif=exif)).getexif()[0x0112] == 6
    doubled = encoded(picture, "JPEG", exif=b"Exif\0\0" + exif.tobytes())
    assert decode_image(doubled).getexif()[0x0112] == 6


def test_dear_variants_are_refused_before_any_pixel() -> None:
    assert f"{MAX_SCANS + 11} scans" in refusal(jpeg_with_scans(MAX_SCANS + 1))
    assert "run-length BMP" in refusal(run_length_bmp(8000, 8000))
    assert "for a WebP" in refusal(webp_header(16_383, 16_383))
    assert "a side may have at most 65535" in refusal(png_of_rows(Image.new("RGB", (1, 70_000)), 1))


def test_a_small_run_length_bmp_is_decoded() -> None:
    data = run_length_bmp(4, 2, b"\4\7\0\0\4\11\0\1")
    assert np.asarray(decode_image(data).convert("L")).tolist() == [[9] * 4, [7] * 4]


def test_the_limit_is_named() -> None:
    with pytest.raises(InvalidImageError, match=r"12000 x 9000 pixels.*--max-image-pixels"):
        decode_image(encoded(Image.new("L", (12_000, 9_000)), "JPEG"))


class EnoughError(Exception):
    """Ends a decoding."""


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "BMP"])
def test_decoding_can_be_stopped(image_format: str) -> None:
    def stop() -> None:
        raise EnoughError

    with pytest.raises(EnoughError):
        decode_image(encoded(drawn(64, 64), image_format), check=stop)


@pytest.mark.parametrize(
    "data",
    [encoded(drawn(600, 600), "PNG"), encoded(drawn(600, 600), "BMP"), run_length_bmp(900, 900)],
    ids=["PNG", "BMP", "run-length BMP"],
)
def test_decoding_asks_again_and_again(data: bytes) -> None:
    asked = 0

    def check() -> None:
        nonlocal asked
        asked += 1
        if asked > 10:
            raise EnoughError

    with pytest.raises(EnoughError):
        decode_image(data, check=check)


@given(data=st.data())
@pytest.mark.parametrize(("mode", "image_format", "options"), KINDS)
def test_damaged_files_raise_nothing_else(
    mode: str, image_format: str, options: dict[str, Any], data: st.DataObject
) -> None:
    whole = bytearray(encoded(drawn(24, 18, mode), image_format, **options))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    candidate = bytes(whole[: data.draw(st.integers(0, len(whole)))])
    try:
        decode_image(candidate)
    except InvalidImageError as error:
        assert "send" in str(error) or "save" in str(error)
