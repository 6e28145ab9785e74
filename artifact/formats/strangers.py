"""Names what arrived in the place of a picture, so that a refusal says what to mend."""

import re

_ACCEPTED = "send a JPEG, PNG, WebP or BMP"
_OWN_BYTES = "send the picture's own bytes"
_CONVERT = "send it as JPEG or PNG"

_UNPACK = "unpack it and send the picture"

# Brands of files that ISO's base media format wraps; others are videos.
_HEIC_BRANDS = {
    *(b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"hevm", b"hevs"),
    *(b"mif1", b"mif2", b"msf1", b"miaf", b"MiHB", b"MiHE", b"avci", b"avcs"),
}
_OTHER_BRANDS = {
    b"jp2 ": "a JPEG 2000 file",
    b"jxl ": "a JPEG XL file",
    b"crx ": "a camera's raw file",
}

# What each kind of file begins with, what it is, and what to do.
_BEGINNINGS: tuple[tuple[bytes, str, str], ...] = (
    (b"GIF8", "a GIF", _CONVERT),
    (b"II*\0\x10\0\0\0CR", "a camera's raw file", _CONVERT),
    (b"FUJIFILMCCD-RAW", "a camera's raw file", _CONVERT),
    (b"II*\0", "a TIFF", _CONVERT),
    (b"MM\0*", "a TIFF", _CONVERT),
    (b"II+\0", "a BigTIFF", _CONVERT),
    (b"MM\0+", "a BigTIFF", _CONVERT),
    (b"II\xbc", "a JPEG XR file", _CONVERT),
    (b"\0\0\0\x0cjP  ", "a JPEG 2000 file", _CONVERT),
    (b"\xff\x4f\xff\x51", "a JPEG 2000 file", _CONVERT),
    (b"\xff\x0a", "a JPEG XL file", _CONVERT),
    (b"\0\0\0\x0cJXL ", "a JPEG XL file", _CONVERT),
    (b"\0\0\x01\0", "an icon file", _CONVERT),
    (b"8BPS", "a Photoshop file", _CONVERT),
    (b"v/1\x01", "an OpenEXR file", _CONVERT),
    (b"#?RADIANCE", "a Radiance file", _CONVERT),
    (b"DDS ", "a DDS texture", _CONVERT),
    (b"qoif", "a QOI picture", _CONVERT),
    *((b"P%d\n" % kind, "a PNM picture", _CONVERT) for kind in range(1, 8)),
    (b"%PDF", "a PDF", "send the picture in it"),
    (b"%!PS", "a PostScript file", _CONVERT),
    (b"\x93NUMPY", "a .npy file", "send its pixels as raw pixels, or encode them as PNG"),
    (b"\x1f\x8b", "gzip data", _UNPACK),
    (b"BZh", "bzip2 data", _UNPACK),
    (b"\xfd7zXZ\0", "xz data", _UNPACK),
    (b"\x28\xb5\x2f\xfd", "zstandard data", _UNPACK),
    (b"PK\x03\x04", "a zip archive", _UNPACK),
    (b"PK\x05\x06", "an empty zip archive", _OWN_BYTES),
    (b"Rar!", "a rar archive", _UNPACK),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", _UNPACK),
    (b"\x89HDF", "an HDF5 file", "send the picture in it"),
    (b"PAR1", "a Parquet file", "send the picture in it"),
    *(
        (b"\x80" + bytes([protocol, opcode]), "a Python pickle", _OWN_BYTES)
        for protocol, opcodes in ((2, b"}](cXU"), (3, b"}](cXBC"), (4, b"\x95"), (5, b"\x95"))
        for opcode in opcodes
    ),
    (b"version https://git-lfs", "a Git LFS pointer", "run `git lfs pull` and send the picture"),
    (b"HTTP/", "an HTTP answer with its headers", "send the picture in its body"),
    (b"\x1aE\xdf\xa3", "a video", "send one of its pictures as JPEG or PNG"),
)

_URL = re.compile(rb"(https?|s3|gs|file|ftp|wasbs?|abfss?|hdfs)://", re.IGNORECASE)
_DATA_URL = re.compile(rb"data:[^,]{0,200}", re.IGNORECASE)
_PICTURES = ((b"\xff\xd8\xff", "JPEG"), (b"\x89PNG\r\n\x1a\n", "PNG"), (b"WEBPVP8", "WebP"))

_BASE64 = re.compile(rb"\s*[A-Za-z0-9+/_-][A-Za-z0-9+/=_\s-]{31,}")
_PATH = re.compile(
    rb"[^\0\n<>{}]{1,1024}\.(jpe?g|png|webp|bmp|jfif|gif|tiff?|hei[cf]|avif)\s*", re.IGNORECASE
)
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
    if data.startswith(
        (b"\x89PNG\n", b"\x89PNG\r\r", b"\xc2\x89PNG", b"\xc3\xbf\xc3\x98", b"\xef\xbf\xbd")
    ):
        return (
            "the image went through a conversion of text, which changed its bytes: read and send "
            "it as binary data"
        )
    if not head.strip():
        return f"the image is nothing but white space: {_ACCEPTED}"
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
        if brand in _OTHER_BRANDS:
            return f"this is {_OTHER_BRANDS[brand]}: {_CONVERT}"
        return "this is a video: send one of its pictures as JPEG or PNG"
    if head[128:132] == b"DICM":
        return f"this is a DICOM file: {_CONVERT}"
    if head[257:262] == b"ustar":
        return f"this is a tar archive: {_UNPACK}"
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return "this is a video: send one of its pictures as JPEG or PNG"
    return None


def _text(head: bytes) -> str | None:
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        head = head[: len(head) // 2 * 2].decode("utf-16", "replace").encode()
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()[:512].lower()
    # A client that encodes its payload as JSON leaves the quotes.
    quoted = head.strip().strip(b"\"'")
    if url := _DATA_URL.match(quoted):
        if url[0].lower().endswith(b";base64"):
            return "this is a data URL: send the bytes that its base64 text stands for"
        return f"this is a data URL: {_OWN_BYTES}"
    if _URL.match(quoted):
        return "this is a URL: send the picture that is there"
    if start.startswith((b"<!doctype html", b"<html", b"<head", b"<body", b"<!--")) and (
        b"<svg" not in start
    ):
        return "this is an HTML page, as servers send for an error: look at it, and send a picture"
    if b"<svg" in start:
        return f"this is an SVG drawing: {_CONVERT}"
    if start.startswith(b"<"):
        return "this is XML, as storage servers send for an error: look at it, and send a picture"
    if start.startswith((b"{", b"[")):
        return f"this is JSON text: {_OWN_BYTES}"
    if _PATH.fullmatch(quoted):
        return f"this is a path, not a picture: {_OWN_BYTES}"
    if _HEXADECIMAL.fullmatch(quoted):
        return f"this is hexadecimal text: {_OWN_BYTES}"
    if _BASE64.fullmatch(quoted):
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
