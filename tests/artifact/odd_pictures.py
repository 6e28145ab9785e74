"""Image files that are odd: in size, mode, orientation, transparency or colours."""

import io
import struct
from collections.abc import Iterator

import numpy as np
from PIL import Image

_GENERATOR = np.random.default_rng(0)
SIZES = [
    (1, 1), (1, 4000), (4000, 1), (2, 3), (7, 5), (31, 32), (32, 32), (33, 32), (47, 311),
    (100, 99), (224, 223), (255, 257), (640, 427), (427, 640), (1, 33), (500, 333),
]  # fmt: skip


def random_picture(width: int, height: int, mode: str) -> Image.Image:
    """Noise; partly transparent where the mode has alpha."""
    if mode == "I;16":
        return Image.fromarray(_GENERATOR.integers(0, 65536, (height, width), dtype=np.uint16))
    if mode in ("LA", "P", "1"):
        picture = random_picture(width, height, "RGBA" if mode == "LA" else "RGB")
        return picture.quantize(32) if mode == "P" else picture.convert(mode)
    channels = {"L": 1, "RGB": 3, "RGBA": 4, "CMYK": 4}[mode]
    pixels = _GENERATOR.integers(0, 256, (height, width, channels), dtype=np.uint8)
    return Image.fromarray(pixels.squeeze(2) if channels == 1 else pixels, mode)


def encoded(picture: Image.Image, image_format: str, **options: object) -> bytes:
    """Encode a picture with Pillow."""
    buffer = io.BytesIO()
    picture.save(buffer, image_format, **options)
    return buffer.getvalue()


def odd_files() -> Iterator[tuple[str, bytes]]:
    """More than fifty files, each with its name."""
    for width, height in SIZES:
        yield f"RGB PNG {width}x{height}", encoded(random_picture(width, height, "RGB"), "PNG")
        yield f"L JPEG {width}x{height}", encoded(random_picture(width, height, "L"), "JPEG")
    yield "CMYK JPEG", encoded(random_picture(61, 40, "CMYK"), "JPEG")
    yield "16-bit PNG", encoded(random_picture(57, 33, "I;16"), "PNG")
    yield "RGBA PNG", encoded(random_picture(50, 70, "RGBA"), "PNG")
    yield "RGBA PNG 1x90", encoded(random_picture(1, 90, "RGBA"), "PNG")
    yield "LA PNG", encoded(random_picture(50, 70, "LA"), "PNG")
    yield "1-bit PNG", encoded(random_picture(40, 41, "1"), "PNG")
    palette = random_picture(60, 45, "P")
    yield "palette", encoded(palette, "PNG")
    yield "palette, one transparent colour", encoded(palette, "PNG", transparency=3)
    alphas = bytes(range(0, 256, 8))
    yield "palette with transparency", encoded(palette, "PNG", transparency=alphas)
    colors = random_picture(30, 20, "RGB")
    yield "RGB, one transparent colour", encoded(colors, "PNG", transparency=(0, 0, 0))
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        yield f"EXIF {orientation}", encoded(random_picture(90, 60, "RGB"), "JPEG", exif=exif)
    yield "WebP", encoded(random_picture(64, 65, "RGB"), "WEBP")
    yield "WebP with alpha", encoded(random_picture(43, 65, "RGBA"), "WEBP", lossless=True)
    yield "BMP", encoded(random_picture(66, 63, "RGB"), "BMP")
    wide, gray = rgb_profile(), gray_profile()
    for image_format in ("PNG", "JPEG", "WEBP"):
        picture = random_picture(48, 37, "RGB")
        yield f"profile, {image_format}", encoded(picture, image_format, icc_profile=wide)
    alpha = random_picture(37, 48, "RGBA")
    yield "profile and alpha", encoded(alpha, "PNG", icc_profile=wide)
    yield "profile and palette", encoded(palette, "PNG", icc_profile=wide)
    gray_picture = random_picture(48, 37, "L")
    yield "gray profile, JPEG", encoded(gray_picture, "JPEG", icc_profile=gray)
    yield "gray profile, PNG", encoded(gray_picture, "PNG", icc_profile=gray)
    inks = random_picture(48, 37, "CMYK")
    yield "CMYK profile", encoded(inks, "JPEG", icc_profile=cmyk_profile())


def rgb_profile() -> bytes:
    """A profile with Adobe RGB's primaries and a gamma of 2.2."""
    red, green, blue = (0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457)  # fmt: skip  # noqa: E501
    primaries = {b"rXYZ": _xyz(*red), b"gXYZ": _xyz(*green), b"bXYZ": _xyz(*blue)}
    curves = dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), _gamma(2.2))
    return _profile(b"mntr", b"RGB ", b"XYZ ", {**primaries, **curves})


def gray_profile() -> bytes:
    """A profile of one channel with a gamma of 1.8."""
    return _profile(b"mntr", b"GRAY", b"XYZ ", {b"kTRC": _gamma(1.8)})


def cmyk_profile() -> bytes:
    """A profile whose table has the corners of the cube of inks, in Lab."""
    straight = bytes(range(256))
    corners = _GENERATOR.integers(0, 256, (16, 3), dtype=np.uint8).tobytes()
    identity = struct.pack(">9i", *(65536 if i % 4 == 0 else 0 for i in range(9)))
    table = b"mft1\0\0\0\0\x04\x03\x02\0" + identity + straight * 4 + corners + straight * 3
    return _profile(b"prtr", b"CMYK", b"Lab ", {b"A2B0": table})


def _profile(kind: bytes, space: bytes, connection: bytes, tags: dict[bytes, bytes]) -> bytes:
    """An ICC profile of version 2."""
    text = b"made for a test\0"
    tags = {
        b"desc": b"desc\0\0\0\0" + struct.pack(">I", len(text)) + text + bytes(78),
        b"cprt": b"text\0\0\0\0" + text,
        b"wtpt": _xyz(0.9642, 1.0, 0.8249),
        **tags,
    }
    offset, table, body = 128 + 4 + 12 * len(tags), b"", b""
    for name, tag in tags.items():
        table += name + struct.pack(">II", offset + len(body), len(tag))
        body += tag + bytes(-len(tag) % 4)
    header = struct.pack(
        ">I4sI4s4s4s12x4s28x3i48x",
        offset + len(body), b"test", 0x02100000, kind, space, connection, b"acsp",
        63190, 65536, 54061,
    )  # fmt: skip
    return header + struct.pack(">I", len(tags)) + table + body


def _xyz(x: float, y: float, z: float) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(each * 65536) for each in (x, y, z)))


def _gamma(value: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(value * 256)) + b"\0\0"
