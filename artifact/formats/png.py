"""PNG: only the chunks that make the picture reach Pillow, and every row must be there.

Pillow refuses a whole picture for the text beside it, and answers missing rows with black.
"""

import struct
import zlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

from PIL import Image

from convd.artifact.formats.header import STORED_BYTES, PictureHeader, PictureMode, damaged
from convd.artifact.formats.stoppable import open_stoppable

MAGIC = b"\x89PNG\r\n\x1a\n"

# Bit depth and colour type of the header: Pillow's mode, and samples of one pixel.
_KINDS: dict[tuple[int, int], tuple[PictureMode, int]] = {
    (1, 0): ("1", 1),
    (2, 0): ("L", 1),
    (4, 0): ("L", 1),
    (8, 0): ("L", 1),
    (16, 0): ("I;16", 1),
    (8, 2): ("RGB", 3),
    (16, 2): ("RGB", 3),
    (1, 3): ("P", 1),
    (2, 3): ("P", 1),
    (4, 3): ("P", 1),
    (8, 3): ("P", 1),
    (8, 4): ("LA", 2),
    (16, 4): ("RGBA", 2),
    (8, 6): ("RGBA", 4),
    (16, 6): ("RGBA", 4),
}

_CRITICAL = {b"IHDR", b"PLTE", b"IDAT", b"IEND"}
_USED = _CRITICAL | {b"tRNS", b"eXIf"}
_PROFILE = b"iCCP"

# First column and row, and distance of columns and rows, of each pass of an interlaced picture.
_PASSES = (
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
)

_PIECE_BYTES = 64 * 1024

MAX_PROFILE_BYTES = 1024 * 1024
"""Largest ICC profile that is unpacked, as in Pillow."""


class _Chunk(NamedTuple):
    """Where a chunk lies: its name, its data, and its end with the checksum."""

    name: bytes
    start: int
    end: int


def read_header(data: bytes) -> PictureHeader:
    """Read the first chunk.

    Raises:
        InvalidImageError: It is damaged, or says something that no PNG may say.
    """
    width, height, depth, colour, _ = _read_first_chunk(data)
    mode, samples = _KINDS[depth, colour]
    row_bytes = (width * samples * depth + 7) // 8
    # Pillow keeps two rows to undo the filters, and gets a copy of the chunks that it needs.
    decoding_bytes = width * height * STORED_BYTES[mode] + 4 * row_bytes + len(data)
    return PictureHeader("PNG", width, height, mode, decoding_bytes)


def decode(data: bytes, header: PictureHeader, check: Callable[[], None]) -> Image.Image:
    """Decode the pixels.

    Args:
        data: The file.
        header: Its header.
        check: Called again and again; an exception from it ends the decoding.

    Raises:
        InvalidImageError: Pixels are missing or corrupt.
    """
    _, _, depth, colour, interlaced = _read_first_chunk(data)
    chunks = list(_chunks(data))
    picture = open_stoppable(_without_unused(data, chunks), "PNG", check)
    # Pillow takes the last of several headers.
    header.check_decoder(*picture.size)
    picture.load()
    _keep_profile(picture, data, chunks)
    last_row = picture.crop((0, header.height - 1, header.width, header.height))
    # A row that never came is zero. Few pictures have one, so few are unpacked twice.
    if interlaced or last_row.getbbox(alpha_only=False) is None:
        samples = _KINDS[depth, colour][1]
        expected = _unpacked_bytes(header.width, header.height, samples * depth, interlaced)
        view = memoryview(data)
        pixels = (view[chunk.start : chunk.end - 4] for chunk in chunks if chunk.name == b"IDAT")
        _check_unpacked(pixels, expected, check)
    return picture


def _read_first_chunk(data: bytes) -> tuple[int, int, int, int, bool]:
    """Width, height, bit depth, colour type, and whether the picture is interlaced."""
    if data[8:16] != b"\0\0\0\rIHDR" or len(data) < 33:
        raise damaged("its header is cut", "PNG")
    if zlib.crc32(data[12:29]) != int.from_bytes(data[29:33]):
        raise damaged("the checksum of its header is wrong", "PNG")
    width, height, depth, colour, compression, filters, interlace = struct.unpack(
        ">IIBBBBB", data[16:29]
    )
    if (depth, colour) not in _KINDS or compression or filters or interlace > 1:
        raise damaged("its header says what no PNG may say", "PNG")
    return width, height, depth, colour, bool(interlace)


def _chunks(data: bytes) -> Iterator[_Chunk]:
    """The chunks that are used, the profile whatever its checksum.

    Raises:
        InvalidImageError: A chunk that the pixels depend on is cut or has a wrong checksum.
    """
    view = memoryview(data)
    position = len(MAGIC)
    ended = False
    while position + 8 <= len(data) and not ended:
        length, name = int.from_bytes(view[position : position + 4]), data[position + 4 :][:4]
        start, end = position + 8, position + 12 + length
        whole = end <= len(data) and (
            name not in _USED
            or zlib.crc32(view[start - 4 : end - 4]) == int.from_bytes(view[end - 4 : end])
        )
        if whole and (name in _USED or name == _PROFILE):
            yield _Chunk(name, start, end)
        elif not whole and name in _CRITICAL - {b"IEND"}:
            cut = "is cut" if end > len(data) else "has a wrong checksum"
            raise damaged(f"the chunk {name.decode()} {cut}", "PNG")
        position = end
        ended = name == b"IEND"


def _without_unused(data: bytes, chunks: list[_Chunk]) -> bytes:
    # Pillow would refuse the picture for a profile that is damaged.
    chunks = [chunk for chunk in chunks if chunk.name != _PROFILE]
    used = sum(chunk.end - chunk.start + 8 for chunk in chunks)
    if used + len(MAGIC) == len(data):
        return data
    view = memoryview(data)
    end = [b"\0\0\0\0IEND\xaeB`\x82"] if not chunks or chunks[-1].name != b"IEND" else []
    return b"".join([MAGIC, *(view[chunk.start - 8 : chunk.end] for chunk in chunks), *end])


def _keep_profile(picture: Image.Image, data: bytes, chunks: list[_Chunk]) -> None:
    """Put the profile where Pillow looks for it: empty if it is damaged or too large."""
    for chunk in chunks:
        if chunk.name == _PROFILE:
            _, _, packed = data[chunk.start : chunk.end - 4].partition(b"\0")
            unpacking = zlib.decompressobj()
            try:
                # The first byte names the only method of compression that there is.
                profile = unpacking.decompress(packed[1:], MAX_PROFILE_BYTES)
            except zlib.error:
                profile = b""
            picture.info["icc_profile"] = profile if unpacking.eof else b""
            return


def _unpacked_bytes(width: int, height: int, pixel_bits: int, interlaced: bool) -> int:
    """Bytes of all rows, with one for the filter of each."""
    passes = _PASSES if interlaced else ((0, 0, 1, 1),)
    total = 0
    for left, top, across, down in passes:
        columns = max(0, -(-(width - left) // across))
        rows = max(0, -(-(height - top) // down))
        total += rows * (1 + (columns * pixel_bits + 7) // 8) if columns else 0
    return total


def _check_unpacked(pixels: Iterator[memoryview], expected: int, check: Callable[[], None]) -> None:
    unpacking = zlib.decompressobj()
    unpacked = 0
    for chunk in pixels:
        for start in range(0, len(chunk), _PIECE_BYTES):
            packed: bytes | memoryview = chunk[start : start + _PIECE_BYTES]
            while packed and unpacked < expected:
                check()
                try:
                    unpacked += len(unpacking.decompress(packed, _PIECE_BYTES))
                except zlib.error:
                    raise damaged("its pixels are corrupt", "PNG") from None
                packed = unpacking.unconsumed_tail
    while unpacked < expected and (piece := unpacking.decompress(b"", _PIECE_BYTES)):
        unpacked += len(piece)
    if unpacked < expected:
        raise damaged("the file ends before its pixels do", "PNG")
