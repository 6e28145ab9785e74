"""Fuzz target: from the bytes of a picture to the input of a network."""

import hashlib
from collections.abc import Iterator

import numpy as np

from convd.artifact.decoding import decode_image, read_header
from convd.artifact.errors import InvalidImageError
from convd.artifact.footprint import footprint_of_file
from convd.artifact.preprocessing import (
    CenterCrop,
    Preprocessing,
    ResizeShorterSide,
    ResizeTo,
    prepare_image,
)
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
from tests.fuzz.bounds import check_text, memory_within
from tests.fuzz.mutation import mutate_picture
from tests.fuzz.target import Target

MAX_PIXELS = 4 * 1024 * 1024

_RECIPES = (
    Preprocessing(resize=ResizeTo(height=4, width=6)),
    Preprocessing(resize=ResizeTo(height=28, width=28), channel_order="L"),
    Preprocessing(
        resize=ResizeShorterSide(size=40),
        center_crop=CenterCrop(height=32, width=32),
        interpolation="bicubic",
        channel_order="BGR",
        apply_exif_orientation=True,
    ),
    Preprocessing(resize=ResizeShorterSide(size=8), center_crop=CenterCrop(height=32, width=16)),
)


def read(data: bytes) -> None:
    """Decode and prepare a picture as the service does, within the memory that it reckons."""
    # Derived from the input, so that an input alone says what was done with it.
    recipe = _RECIPES[hashlib.sha256(data).digest()[0] % len(_RECIPES)]
    try:
        with memory_within(4 * len(data)):
            header = read_header(data, max_pixels=MAX_PIXELS)
        with memory_within(footprint_of_file(header, recipe)):
            picture = decode_image(data, header=header)
            assert (picture.width, picture.height) == (header.width, header.height)
            assert picture.mode == header.mode
            image = prepare_image(picture, recipe)
    except InvalidImageError as error:
        check_text(str(error))
    else:
        assert image.shape == recipe.output_shape
        assert image.dtype == np.uint8


def _seeds() -> Iterator[tuple[str, bytes]]:
    for mode in ("1", "L", "P", "RGB", "RGBA", "LA", "I;16"):
        yield f"png-{mode.replace(';', '')}", encoded(drawn(24, 17, mode), "PNG")
    for mode in ("L", "RGB", "CMYK"):
        yield f"jpeg-{mode}", encoded(drawn(24, 17, mode), "JPEG", quality=40)
    yield "jpeg-progressive", encoded(drawn(24, 17), "JPEG", progressive=True)
    yield "jpeg-restarts", encoded(drawn(24, 17), "JPEG", restart_marker_blocks=1)
    exif = drawn(24, 17).getexif()
    exif[0x0112] = 6
    yield "jpeg-exif", encoded(drawn(24, 17), "JPEG", exif=exif)
    yield "jpeg-scans", jpeg_with_scans(3, 16, 16)
    yield "png-interlaced", interlaced_png(np.asarray(drawn(24, 17, "L")))
    yield "png-rows-missing", png_of_rows(drawn(9, 9), 4)
    text = png_chunk(b"tEXt", b"Comment\0text")
    yield "png-text", insert_before(encoded(drawn(8, 8), "PNG"), b"IDAT", text)
    transparent = drawn(24, 17, "P")
    transparent.info["transparency"] = bytes(range(256))
    yield "png-transparent", encoded(transparent, "PNG", transparency=bytes(range(16)))
    yield "webp", encoded(drawn(24, 17), "WEBP", quality=30)
    yield "webp-lossless", encoded(drawn(24, 17, "RGBA"), "WEBP", lossless=True)
    second = [drawn(24, 17).rotate(180)]
    yield "webp-animated", encoded(drawn(24, 17), "WEBP", save_all=True, append_images=second)
    yield "webp-header", webp_header(300, 300)
    for mode in ("1", "L", "P", "RGB"):
        yield f"bmp-{mode}", encoded(drawn(9, 7, mode), "BMP")
    yield "bmp-run-length", run_length_bmp(8, 8, b"\x08\x01\0\0" * 8 + b"\0\1")
    yield "heic", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"
    yield "base64", b"iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJ"


TARGET = Target(read, mutate_picture, dict(_seeds()), max_input_bytes=16 * 1024)
