"""JPEG, decoded by libjpeg-turbo with its warnings: it is the only one to notice missing pixels.

Pillow wraps the same library and gives the same pixels, but fills what is missing with grey and
says nothing.
"""

import re
from collections.abc import Iterator

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from convd.artifact.errors import InvalidImageError
from convd.artifact.formats.header import PictureHeader, PictureMode, damaged

MAGIC = b"\xff\xd8\xff"

MAX_SCANS = 100
"""Most scans of one picture. Encoders write about ten; each costs a pass over all pixels, however
few bytes it has."""

MAX_SCANNED_PIXELS = 320 * 1024 * 1024
"""Most pixels x scans: ten scans of 32 megapixels. It takes about a second of one core, and cannot
be stopped."""

_START_OF_SCAN = 0xDA
_END_OF_IMAGE = 0xD9
_APP1 = 0xE1
_APP2 = 0xE2
_APP1_MARKER = bytes((0xFF, _APP1))
_APP2_MARKER = bytes((0xFF, _APP2))
_STANDALONE = {0x01, *range(0xD0, 0xD9)}
_JPEG_LS = 0xF7
_FRAMES = (set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}) | {_JPEG_LS}
_DECODED_FRAMES = {0xC0, 0xC1, 0xC2, 0xC9, 0xCA}
_PROGRESSIVE_FRAMES = {0xC2, 0xCA}
_LOSSLESS_FRAMES = {0xC3, 0xCB, _JPEG_LS}

_MODES: dict[int, PictureMode] = {1: "L", 3: "RGB", 4: "CMYK"}
_COLORSPACES = {"L": "GRAY", "RGB": "RGB", "CMYK": "CMYK"}

_EXIF = b"Exif\0\0"
_XMP = b"http://ns.adobe.com/xap/1.0/\0"
_ICC = b"ICC_PROFILE\0"

# Warnings of the library that leave the pixels whole.
_HARMLESS = re.compile(
    "JFIF revision|Adobe color transform|bad ICC marker|Invalid SOS parameters"
    "|Inconsistent progression"
)
_EXTRANEOUS = re.compile(r"(\d+) extraneous bytes before marker 0xd9")


def read_header(data: bytes) -> PictureHeader:
    """Read the segments before the first scan, and count the scans.

    Raises:
        InvalidImageError: The file is damaged, of a kind that is not decoded, or has more scans
            than any encoder writes.
    """
    frame: tuple[int, bytes] | None = None
    profile_bytes = 0
    for marker, start, end in _segments(data):
        if marker in _FRAMES:
            frame = (marker, data[start:end])
        if marker == _APP2:
            profile_bytes += end - start
        if marker == _START_OF_SCAN:
            if frame is None:
                break
            scans = _count_scans(data, frame, start)
            return _header(*frame, scans=scans, profile_bytes=profile_bytes)
    raise damaged("the file ends before its pixels begin", "JPEG")


def decode(data: bytes, header: PictureHeader) -> Image.Image:
    """Decode the pixels.

    Returns:
        A picture of the header's mode; its EXIF and XMP data and its ICC profile lie where Pillow
        looks for them.

    Raises:
        InvalidImageError: Pixels are missing or corrupt.
    """
    header.check_decoder(*_size(data))
    pixels = _decompress(data, _COLORSPACES[header.mode])
    if header.mode == "L":
        picture = Image.fromarray(pixels.reshape(header.height, header.width))
    elif header.mode == "RGB":
        picture = Image.fromarray(pixels)
    else:
        # Every program that writes CMYK follows Adobe and inverts it.
        np.bitwise_not(pixels, out=pixels)
        size = (header.width, header.height)
        picture = Image.frombuffer("CMYK", size, pixels, "raw", "CMYK", 0, 1)
    # In pixels, 0 follows 255: without these two bytes there is no such segment.
    if _APP1_MARKER in data or _APP2_MARKER in data:
        _keep_segments(picture, data)
    return picture


def _keep_segments(picture: Image.Image, data: bytes) -> None:
    profile: list[bytes] = []
    for marker, start, end in _segments(data):
        if marker == _START_OF_SCAN:
            break
        if marker == _APP1:
            _keep_metadata(picture, data[start:end])
        elif marker == _APP2 and data.startswith(_ICC, start):
            profile.append(data[start + len(_ICC) : end])
    if profile:
        picture.info["icc_profile"] = _joined(profile)


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Markers with the beginning and end of what follows each; ends at the first scan."""
    position = 2
    while True:
        position = data.find(b"\xff", position)
        while position != -1 and data[position : position + 1] == b"\xff":
            position += 1
        if position == -1 or position >= len(data):
            return
        marker = data[position]
        position += 1
        # A zero is a byte of the pixels, or rubbish that decoders skip.
        if marker == 0 or marker in _STANDALONE:
            continue
        length = int.from_bytes(data[position : position + 2])
        end = position + length
        if marker == _END_OF_IMAGE or length < 2 or end > len(data):
            return
        yield marker, position + 2, end
        if marker == _START_OF_SCAN:
            return
        position = end


def _count_scans(data: bytes, frame: tuple[int, bytes], start: int) -> int:
    marker, content = frame
    # A sequential picture whose first scan has every component has no other.
    if marker not in _PROGRESSIVE_FRAMES and data[start : start + 1] == content[5:6]:
        return 1
    # Only a scan's header has these two bytes; in pixels, 0 follows 255.
    return data.count(b"\xff\xda", start - 4)


def _header(marker: int, frame: bytes, *, scans: int, profile_bytes: int) -> PictureHeader:
    if marker in _LOSSLESS_FRAMES:
        raise InvalidImageError("a lossless JPEG is not decoded: send a usual JPEG or a PNG")
    if marker not in _DECODED_FRAMES:
        raise InvalidImageError("a hierarchical JPEG is not decoded: send a usual JPEG or a PNG")
    components = frame[5] if len(frame) > 5 else 0
    if len(frame) < 6 + 3 * components:
        raise damaged("its header is cut", "JPEG")
    if frame[0] != 8:
        raise InvalidImageError(
            f"a JPEG of {frame[0]} bits is not decoded: save it with 8 bits for each colour"
        )
    if components not in _MODES:
        raise InvalidImageError(
            f"a JPEG of {components} components is not decoded: send grayscale, RGB or CMYK"
        )
    height, width = int.from_bytes(frame[1:3]), int.from_bytes(frame[3:5])
    if scans > MAX_SCANS or scans * width * height > MAX_SCANNED_PIXELS:
        raise InvalidImageError(
            f"a JPEG of {width} x {height} pixels with {scans} scans would take too long to "
            "decode: save it again, without progressive scans"
        )
    mode = _MODES[components]
    pixels = width * height
    # Decompressed samples, and Pillow's copy of them where it pads RGB to four bytes.
    decoding_bytes = pixels * (3 + 4 if mode == "RGB" else components)
    if marker in _PROGRESSIVE_FRAMES or scans > 1:
        factors = [(frame[7 + 3 * i] >> 4, frame[7 + 3 * i] & 15) for i in range(components)]
        decoding_bytes += _coefficient_bytes(width, height, factors)
    # The library takes one row of blocks at a time, and its input as it is.
    decoding_bytes += 64 * components * (width + 64) * 4
    # The parts of the profile, and the profile.
    decoding_bytes += 2 * profile_bytes
    return PictureHeader("JPEG", width, height, mode, decoding_bytes)


def _coefficient_bytes(width: int, height: int, factors: list[tuple[int, int]]) -> int:
    """Scans refine coefficients, so all of them are kept: two bytes each, in whole blocks."""
    horizontal = max(1, *(across for across, _ in factors))
    vertical = max(1, *(down for _, down in factors))
    padded = (width + 8 * horizontal) * (height + 8 * vertical)
    share = sum(across * down for across, down in factors) / (horizontal * vertical)
    return int(2 * padded * share)


def _size(data: bytes) -> tuple[int, int]:
    """Width and height as the library finds them."""
    try:
        height, width, *_ = simplejpeg.decode_jpeg_header(data, strict=False)
    except ValueError as error:
        raise damaged(f"its header cannot be read ({error})", "JPEG") from None
    return width, height


def _decompress(data: bytes, colorspace: str) -> NDArray[np.uint8]:
    pixels: NDArray[np.uint8]
    try:
        pixels = simplejpeg.decode_jpeg(data, colorspace, strict=True)
        return pixels
    except ValueError as error:
        reason = str(error)
    if not _HARMLESS.search(reason) and not _is_padding(data, reason):
        raise damaged(f"its pixels are missing or corrupt ({reason})", "JPEG")
    try:
        pixels = simplejpeg.decode_jpeg(data, colorspace, strict=False)
        return pixels
    except ValueError as error:
        reason = str(error)
    raise damaged(f"it cannot be decoded ({reason})", "JPEG")


def _is_padding(data: bytes, reason: str) -> bool:
    """Whether bytes that are too many are those with which cameras fill up the pixels."""
    extraneous = _EXTRANEOUS.search(reason)
    if extraneous is None:
        return False
    count = int(extraneous[1])
    end = data.rindex(b"\xff\xd9")
    return not data[max(0, end - count) : end].strip(data[end - 1 : end])


def _joined(parts: list[bytes]) -> bytes:
    """An ICC profile of its numbered parts; empty if one is missing."""
    parts.sort()
    whole = all(part[:2] == bytes((i, len(parts))) for i, part in enumerate(parts, start=1))
    return b"".join(part[2:] for part in parts) if whole else b""


def _keep_metadata(picture: Image.Image, segment: bytes) -> None:
    if segment.startswith(_EXIF) and "exif" not in picture.info:
        # Some programs write the header of the block twice.
        while segment.startswith(_EXIF * 2):
            segment = segment.removeprefix(_EXIF)
        picture.info["exif"] = segment
    elif segment.startswith(_XMP) and "xmp" not in picture.info:
        picture.info["xmp"] = segment.removeprefix(_XMP)
