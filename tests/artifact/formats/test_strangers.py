"""A refusal says what arrived."""

import base64
import gzip
import io

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


@pytest.mark.parametrize("what", STRANGERS)
def test_a_refusal_says_what_arrived(what: str) -> None:
    with pytest.raises(InvalidImageError) as refused:
        decode_image(STRANGERS[what])
    assert what.rstrip(": ,") in str(refused.value)


@pytest.mark.parametrize(
    ("frame", "what"),
    [
        (b"\xff\xc3\0\x0b\x08\0\x10\0\x10\x01\x01\x11\0", "a lossless JPEG"),
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
