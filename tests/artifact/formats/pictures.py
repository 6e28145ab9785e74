"""Pictures of every kind that is decoded, and ways to damage them."""

import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image


def drawn(width: int, height: int, mode: str = "RGB") -> Image.Image:
    """A smooth picture with noise: neither its rows nor its blocks are all alike."""
    random = np.random.default_rng(width * 65_537 + height)
    coarse = random.integers(0, 255, (max(2, height // 16), max(2, width // 16), 4), np.uint8)
    smooth = Image.fromarray(coarse, "RGBA").resize((width, height), Image.Resampling.BICUBIC)
    noisy = np.asarray(smooth).astype(np.int16) + random.integers(-4, 5, (height, width, 4))
    picture = Image.fromarray(noisy.clip(1, 255).astype(np.uint8), "RGBA")
    if mode == "I;16":
        return Image.fromarray(np.asarray(picture.convert("L")).astype(np.uint16) * 257)
    if mode in {"CMYK", "P", "1", "L", "LA"}:
        picture = picture.convert("LA" if mode == "LA" else "RGB")
    return picture.convert(mode)


def encoded(picture: Image.Image, image_format: str, **options: Any) -> bytes:
    """Encode a picture with Pillow."""
    buffer = io.BytesIO()
    picture.save(buffer, image_format, **options)
    return buffer.getvalue()


def png_chunk(name: bytes, data: bytes = b"", *, checksum: int | None = None) -> bytes:
    """A chunk of a PNG; another checksum than its own damages it."""
    own = zlib.crc32(name + data)
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", checksum or own)


def insert_before(data: bytes, name: bytes, chunk: bytes) -> bytes:
    """Put a chunk before the first of some name."""
    position = data.index(name) - 4
    return data[:position] + chunk + data[position:]


def interlaced_png(pixels: np.ndarray[Any, np.dtype[np.uint8]], *, rows_missing: int = 0) -> bytes:
    """A grayscale Adam7 PNG of uint8 `[height, width]`, which Pillow does not write."""
    height, width = pixels.shape
    passes = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2))
    rows = [
        b"\0" + row.tobytes()
        for left, top, across, down in (*passes, (0, 1, 1, 2))
        for row in pixels[top::down, left::across]
        if row.size
    ]
    packed = zlib.compress(b"".join(rows[: len(rows) - rows_missing]))
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 1)
    parts = (png_chunk(b"IHDR", header), png_chunk(b"IDAT", packed), png_chunk(b"IEND"))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def png_of_rows(picture: Image.Image, rows: int) -> bytes:
    """An RGB PNG whose header promises all rows and whose pixels end after some of them."""
    pixels = np.asarray(picture.convert("RGB"))
    height, width = pixels.shape[:2]
    packed = zlib.compress(b"".join(b"\0" + row.tobytes() for row in pixels[:rows]))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = (png_chunk(b"IHDR", header), png_chunk(b"IDAT", packed), png_chunk(b"IEND"))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def webp_header(width: int, height: int) -> bytes:
    """The 38 bytes of an animated WebP that promise a canvas."""
    canvas = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    body = b"WEBPVP8X" + struct.pack("<I", 10) + b"\x02\0\0\0" + canvas + b"ANIM\0\0\0\0"
    return b"RIFF" + struct.pack("<I", len(body)) + body


def run_length_bmp(width: int, height: int, pixels: bytes = b"\0\0" * 500) -> bytes:
    """A run-length BMP of 256 grays, whose pixels need not be there."""
    palette = b"".join(bytes((value, value, value, 0)) for value in range(256))
    offset = 14 + 40 + len(palette)
    head = b"BM" + struct.pack("<IHHI", offset + len(pixels), 0, 0, offset)
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(pixels), 1, 1, 256, 256)
    return head + info + palette + pixels


def jpeg_with_scans(scans: int, width: int = 64, height: int = 64) -> bytes:
    """A progressive JPEG whose last scan comes again and again."""
    whole = encoded(drawn(width, height), "JPEG", progressive=True)
    last = whole.rindex(b"\xff\xda")
    return whole[:-2] + whole[last:-2] * scans + whole[-2:]
