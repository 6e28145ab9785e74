"""Names what arrived in the place of a picture, so that a refusal says what to mend."""

import re

_ACCEPTED = "send a JPEG, PNG, WebP or BMP"
_OWN_BYTES = "send the picture's own bytes"
_CONVERT = "send it as JPEG or PNG"

_HEIC_BRANDS = {b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1"}

# What each kind of file begins with, what it is, and what to do.
_BEGINNINGS: tuple[tuple[bytes, str, str], ...] = (
    (b"GIF8", "a GIF", _CONVERT),
    (b"II*\0", "a TIFF", _CONVERT),
    (b"MM\0*", "a TIFF", _CONVERT),
    (b"II+\0", "a BigTIFF", _CONVERT),
    (b"\0\0\0\x0cjP  ", "a JPEG 2000 file", _CONVERT),
    (b"\xff\x4f\xff\x51", "a JPEG 2000 file", _CONVERT),
    (b"\xff\x0a", "a JPEG XL file", _CONVERT),
    (b"\0\0\0\x0cJXL ", "a JPEG XL file", _CONVERT),
    (b"\0\0\x01\0", "an icon file", _CONVERT),
    (b"8BPS", "a Photoshop file", _CONVERT),
    (b"%PDF", "a PDF", "send the picture in it"),
    (b"\x93NUMPY", "a .npy file", "send its pixels as raw pixels, or encode them as PNG"),
    (b"\x1f\x8b", "gzip data", "unpack it and send the picture"),
    (b"PK\x03\x04", "a zip archive", "unpack it and send the picture"),
    (b"\x28\xb5\x2f\xfd", "zstandard data", "unpack it and send the picture"),
    (b"\x80\x04\x95", "a Python pickle", _OWN_BYTES),
    (b"\x80\x05\x95", "a Python pickle", _OWN_BYTES),
    (b"version https://git-lfs", "a Git LFS pointer", "run `git lfs pull` and send the picture"),
    (b"data:", "a data URL", "send the bytes that its base64 text stands for"),
    (b"http://", "a URL", "send the picture that is there"),
    (b"https://", "a URL", "send the picture that is there"),
    (b"s3://", "a URL", "send the picture that is there"),
    (b"file://", "a URL", "send the picture that is there"),
)

_PICTURES = ((b"\xff\xd8\xff", "JPEG"), (b"\x89PNG\r\n\x1a\n", "PNG"), (b"WEBPVP8", "WebP"))

_BASE64 = re.compile(rb"\s*[A-Za-z0-9+/_-][A-Za-z0-9+/=_\s-]{31,}")
_PATH = re.compile(rb"[^\0\n<>{}]{1,1024}\.(jpe?g|png|webp|bmp|gif|tiff?|heic)\s*", re.IGNORECASE)
_HEXADECIMAL = re.compile(rb"\s*(ffd8ff|89504e47)[0-9a-f\s]*", re.IGNORECASE)


def name_stranger(data: bytes) -> str:
    """Say what the bytes are, as far as their beginning tells, and what to do.

    Args:
        data: Bytes that are not a JPEG, PNG, WebP or BMP.
    """
    head = data[:1024]
    for recognise in (_file, _text, _wrapped):
        found = recognise(head)
        if found is not None:
            return found
    if not head.strip(b"\0"):
        return f"the image is nothing but zeros: {_ACCEPTED}"
    return f"the bytes are not an image that can be decoded: {_ACCEPTED}"


def _file(head: bytes) -> str | None:
    for beginning, what, remedy in _BEGINNINGS:
        if head.startswith(beginning):
            return f"this is {what}: {remedy}"
    if head[4:8] == b"ftyp":
        brand = head[8:12]
        if brand in {b"avif", b"avis"} or (brand in _HEIC_BRANDS and b"avif" in head[12:64]):
            return f"this is an AVIF picture: {_CONVERT}"
        if brand in _HEIC_BRANDS:
            return f"this is a HEIC picture, as phones take them: {_CONVERT}"
        return "this is a video: send one of its pictures as JPEG or PNG"
    if head[128:132] == b"DICM":
        return f"this is a DICOM file: {_CONVERT}"
    return None


def _text(head: bytes) -> str | None:
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()[:512].lower()
    if start.startswith((b"<!doctype html", b"<html", b"<head", b"<body")):
        return "this is an HTML page, as servers send for an error: look at it, and send a picture"
    if b"<svg" in start:
        return f"this is an SVG drawing: {_CONVERT}"
    if start.startswith(b"<"):
        return "this is XML, as storage servers send for an error: look at it, and send a picture"
    if start.startswith((b"{", b"[")):
        return f"this is JSON text: {_OWN_BYTES}"
    if _PATH.fullmatch(head):
        return f"this is a path, not a picture: {_OWN_BYTES}"
    if _HEXADECIMAL.fullmatch(head):
        return f"this is hexadecimal text: {_OWN_BYTES}"
    if _BASE64.fullmatch(head):
        return "this is base64 text: send the bytes that it stands for"
    if start.startswith((b"b'", b'b"')):
        return f"this is the text that Python prints for bytes: {_OWN_BYTES}"
    return None


def _wrapped(head: bytes) -> str | None:
    for magic, image_format in _PICTURES:
        position = head.find(magic)
        if position > 0:
            return (
                f"a {image_format} begins at byte {position}, after something else, such as the "
                f"header of a protobuf message or a form: {_OWN_BYTES}"
            )
    return None
