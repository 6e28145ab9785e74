"""A refusal says what arrived."""

import base64
import bz2
import gzip
import io
import lzma

import numpy as np
import pytest
from PIL import Image

from convd.artifact.decoding import decode_image
from convd.artifact.errors import InvalidImageError
from convd.protos.convd.v1 import classification_pb2 as pb
from tests.artifact.formats.pictures import drawn, encoded


def _npy() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.zeros((2, 2)))
    return buffer.getvalue()


JPEG = encoded(drawn(32, 32), "JPEG")

STRANGERS = {
    "is empty": b"",
    "a HEIC picture": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic",
    "a HEIC picture, ": b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic",
    "an AVIF picture": encoded(drawn(8, 8), "AVIF"),
    "a GIF": encoded(drawn(8, 8), "GIF"),
    "a TIFF": encoded(drawn(8, 8), "TIFF"),
    "a JPEG 2000": b"\0\0\0\x0cjP  \r\n\x87\n",
    "an icon": encoded(drawn(8, 8), "ICO"),
    "a PDF": b"%PDF-1.7\n",
    "a video": b"\0\0\0\x18ftypisom\0\0\0\0",
    "base64 text": base64.b64encode(JPEG),
    "base64 text: ": base64.encodebytes(JPEG),
    "a data URL": b"data:image/jpeg;base64," + base64.b64encode(JPEG),
    "an HTML page": b"<!DOCTYPE html>\n<title>502 Bad Gateway</title>",
    "XML": b'<?xml version="1.0"?>\n<Error><Code>AccessDenied</Code></Error>',
    "an SVG": b'<svg xmlns="http://www.w3.org/2000/svg"/>',
    "JSON": b'{"instances": []}',
    "a .npy file": _npy(),
    "gzip": gzip.compress(JPEG),
    "a zip": b"PK\x03\x04",
    "a path": b"/data/photos/cat.jpg",
    "a path, ": "C:\\Bilder\\Kätzchen.JPG".encode(),
    "a URL": b"https://example.org/cat.jpg",
    "a protobuf message": pb.Image(encoded=JPEG).SerializeToString(),
    "a Git LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n",
    "a Python pickle": b"\x80\x04\x95\x10\0",
    "Python prints": repr(JPEG).encode(),
    "hexadecimal": JPEG.hex().encode(),
    "nothing but zeros": bytes(1000),
    "not an image": b"no image at all",
}

_TIFF = encoded(drawn(8, 8), "TIFF")
_TAR = bytes(257) + b"ustar\0" + b"00" + bytes(249) + JPEG

# Other spellings of the same kinds.
SIBLINGS = [
    *(
        ("a HEIC picture", b"\0\0\0\x18ftyp" + brand + b"\0\0\0\0mif1miaf")
        for brand in (b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif2", b"miaf", b"MiHB")
    ),
    ("an AVIF picture", b"\0\0\0\x20ftypmif1\0\0\0\0mif1avifmiaf"),
    ("an AVIF picture", b"\0\0\0\x18ftypavis\0\0\0\0avis"),
    ("a JPEG 2000", encoded(drawn(8, 8), "JPEG2000")),
    ("a JPEG 2000", encoded(drawn(8, 8), "JPEG2000", no_jp2=True)),
    ("a JPEG XL", b"\xff\x0a\0"),
    ("a JPEG XR", b"II\xbc\x01" + bytes(8)),
    ("a TIFF", b"MM\0*\0\0\0\x08" + _TIFF[8:]),
    ("a BigTIFF", b"MM\0+\0\x08\0\0"),
    ("a camera's raw file", b"II*\0\x10\0\0\0CR\x02\0"),
    ("a PNM picture", encoded(drawn(8, 8), "PPM")),
    ("a data URL", b"DATA:image/png;base64,aaaa"),
    ("a data URL", b'"data:image/png;base64,aaaa"'),
    ("send the picture's own bytes", b"data:image/svg+xml,%3Csvg%3E"),
    ("base64 text", b'"' + base64.b64encode(JPEG) + b'"'),
    ("base64 text", base64.urlsafe_b64encode(JPEG)),
    ("XML", b"\xef\xbb\xbf<?xml version='1.0'?><Error><Code>NoSuchKey</Code></Error>"),
    ("XML", "<?xml version='1.0'?><Error/>".encode("utf-16")),
    ("an HTML page", b"<!-- served by nginx --><html>"),
    ("an HTTP answer", b"HTTP/1.1 403 Forbidden\r\n\r\n"),
    ("an SVG", b"<?xml version='1.0'?><!-- drawn --><svg/>"),
    ("a URL", b"HTTPS://example.org/cat.jpg"),
    ("a URL", b"gs://bucket/cat.jpg"),
    ("a path", b"/data/photos/cat.jfif\n"),
    ("a tar archive", _TAR),
    ("bzip2", bz2.compress(JPEG)),
    ("xz", lzma.compress(JPEG)),
    ("an empty zip", b"PK\x05\x06" + bytes(18)),
    ("a video", b"RIFF\0\0\0\0AVI LIST"),
    ("a Python pickle", b"\x80\x02}q\0."),
    ("an HDF5 file", b"\x89HDF\r\n\x1a\n"),
    ("white space", b" \n\n"),
    ("a conversion of text", JPEG.decode("latin-1").encode()),
    ("a conversion of text", JPEG.decode("utf-8", "replace").encode()),
    ("a conversion of text", encoded(drawn(8, 8), "PNG").replace(b"\r\n", b"\n")),
]


@pytest.mark.parametrize(("what", "data"), SIBLINGS)
def test_other_spellings_are_recognised_too(what: str, data: bytes) -> None:
    with pytest.raises(InvalidImageError) as refused:
        decode_image(data)
    assert what in str(refused.value)
    assert "send" in str(refused.value)


@pytest.mark.parametrize("what", STRANGERS)
def test_a_refusal_says_what_arrived(what: str) -> None:
    with pytest.raises(InvalidImageError) as refused:
        decode_image(STRANGERS[what])
    assert what.rstrip(": ,") in str(refused.value)


@pytest.mark.parametrize(
    ("frame", "what"),
    [
        (b"\xff\xc3\0\x0b\x08\0\x10\0\x10\x01\x01\x11\0", "a lossless JPEG"),
        (b"\xff\xf7\0\x0b\x08\0\x10\0\x10\x01\x01\x11\0", "a lossless JPEG"),
        (b"\xff\xc1\0\x0b\x0c\0\x10\0\x10\x01\x01\x11\0", "a JPEG of 12 bits"),
        (b"\xff\xc5\0\x0b\x08\0\x10\0\x10\x01\x01\x11\0", "a hierarchical JPEG"),
        (b"\xff\xc0\0\x0e\x08\0\x10\0\x10\x02\x01\x11\0\x02\x11\0", "a JPEG of 2 components"),
    ],
)
def test_rare_jpegs_are_named(frame: bytes, what: str) -> None:
    scan = b"\xff\xda\0\x08\x01\x01\0\0\x3f\0"
    with pytest.raises(InvalidImageError, match=what):
        decode_image(b"\xff\xd8" + frame + scan + b"\xff\xd9")


def test_a_picture_of_floats_is_refused_by_its_format() -> None:
    with pytest.raises(InvalidImageError, match="TIFF"):
        decode_image(encoded(Image.new("F", (4, 4)), "TIFF"))
