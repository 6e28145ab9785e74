"""WebP, decoded by Pillow in one piece; of an animation the first picture."""

from collections.abc import Callable

from PIL import Image

from convd.artifact.errors import InvalidImageError
from convd.artifact.formats.header import PictureHeader, PictureMode, damaged
from convd.artifact.formats.stoppable import open_stoppable

MAGIC = b"RIFF"

MAX_PIXELS = 32 * 1024 * 1024
"""Largest WebP: its decoder cannot be stopped, and this takes it less than a second."""

_BYTES_PER_PIXEL = 22
"""Two canvases, the picture's own pixels, the decoder's, and two copies on the way to Pillow."""

_ALPHA = 0x10


def recognises(data: bytes) -> bool:
    """Whether the bytes begin as a WebP does."""
    return data[:4] == MAGIC and data[8:12] == b"WEBP"


def read_header(data: bytes) -> PictureHeader:
    """Read the size of the canvas from the first chunk.

    Raises:
        InvalidImageError: The file is damaged, or too large to be decoded in one piece.
    """
    width, height, has_alpha = _canvas(data)
    if width * height > MAX_PIXELS:
        raise InvalidImageError(
            f"the picture has {width} x {height} pixels, over the limit of {MAX_PIXELS} for a "
            "WebP: send a smaller one, or a JPEG"
        )
    mode: PictureMode = "RGBA" if has_alpha else "RGB"
    # Pillow and its decoder both copy the file.
    decoding_bytes = _BYTES_PER_PIXEL * width * height + 3 * len(data)
    return PictureHeader("WEBP", width, height, mode, decoding_bytes)


def decode(data: bytes, header: PictureHeader, check: Callable[[], None]) -> Image.Image:
    """Decode the pixels; `check` is called before, and an exception from it is passed on."""
    picture = open_stoppable(data, "WEBP", check)
    header.check_decoder(*picture.size)
    picture.load()
    return picture


def _canvas(data: bytes) -> tuple[int, int, bool]:
    """Width, height, and whether pixels can be transparent."""
    kind, content = data[12:16], data[20:30]
    if kind == b"VP8X" and len(content) == 10:
        width = int.from_bytes(content[4:7], "little") + 1
        height = int.from_bytes(content[7:10], "little") + 1
        return width, height, bool(content[0] & _ALPHA)
    if kind == b"VP8L" and len(content) >= 5 and content[0] == 0x2F:
        bits = int.from_bytes(content[1:5], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1, bool(bits >> 28 & 1)
    if kind == b"VP8 " and len(content) == 10 and content[3:6] == b"\x9d\x01\x2a":
        width = int.from_bytes(content[6:8], "little") & 0x3FFF
        return width, int.from_bytes(content[8:10], "little") & 0x3FFF, False
    raise damaged("its header is cut", "WEBP")
