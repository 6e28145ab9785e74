"""Reads what callers have for an image into what a request carries."""

import io
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from convd.client.errors import InvalidImageError
from convd.protos.convd.v1 import classification_pb2 as pb

if TYPE_CHECKING:
    import numpy as np
    import PIL.Image
    from numpy.typing import NDArray

    ImageLike: TypeAlias = (
        str
        | os.PathLike[str]
        | bytes
        | bytearray
        | memoryview
        | NDArray[np.uint8]
        | PIL.Image.Image
        | pb.Image
    )
    """One image: the path of a file, the file's bytes (JPEG, PNG, WebP or BMP), pixels as a uint8
    array `[height, width]`, `[height, width, 1]` or `[height, width, 3]` (RGB), a Pillow image, or
    the message itself."""
else:
    ImageLike = Any

_EXIF_ORIENTATION = 0x0112
_UPRIGHT = 1


def read_image(image: ImageLike) -> pb.Image:
    """Make the message of one image.

    Raises:
        InvalidImageError: The file cannot be read, or the pixels have another form.
        TypeError: It is something else.
    """
    if isinstance(image, str | os.PathLike):
        try:
            with open(image, "rb") as file:  # noqa: PTH123 - a str need not become a Path first
                return pb.Image(encoded=file.read())
        except OSError as error:
            raise InvalidImageError(f"cannot read {image}: {error.strerror or error}") from error
    if isinstance(image, bytes | bytearray | memoryview):
        return pb.Image(encoded=bytes(image))
    if isinstance(image, pb.Image):
        return image
    # An object of a module that was never imported cannot have been given.
    numpy, pillow = sys.modules.get("numpy"), sys.modules.get("PIL.Image")
    if numpy is not None and isinstance(image, numpy.ndarray):
        return _pixels(image)
    if pillow is not None and isinstance(image, pillow.Image):
        return _pillow(image)
    raise TypeError(
        f"cannot read an image from {type(image).__name__}: give a path, the bytes of a file, a "
        "uint8 array [height, width, channels] or a Pillow image"
    )


def several_images(images: "ImageLike | Sequence[ImageLike]") -> "list[ImageLike] | None":
    """The images of a sequence; None if it is one image, as a path or the bytes of a file are."""
    if isinstance(images, Sequence) and not isinstance(
        images, str | bytes | bytearray | memoryview
    ):
        return list(images)
    return None


def _pixels(array: "NDArray[Any]") -> pb.Image:
    shape = array.shape if array.ndim != 2 else (*array.shape, 1)
    if array.dtype != "uint8" or len(shape) != 3 or shape[2] not in (1, 3):
        raise InvalidImageError(
            f"the array is {array.dtype} {list(array.shape)}: give uint8 [height, width], "
            "[height, width, 1] or [height, width, 3], with values from 0 to 255"
        )
    height, width, channels = shape
    pixels = pb.Pixels(height=height, width=width, channels=channels, data=array.tobytes())
    return pb.Image(pixels=pixels)


def _pillow(picture: "PIL.Image.Image") -> pb.Image:
    tags = {"icc_profile", "transparency"} & picture.info.keys()
    turned = picture.getexif().get(_EXIF_ORIENTATION, _UPRIGHT) != _UPRIGHT
    if picture.mode in ("L", "RGB") and not tags and not turned:
        return pb.Image(
            pixels=pb.Pixels(
                height=picture.height,
                width=picture.width,
                channels=len(picture.getbands()),
                data=picture.tobytes(),
            )
        )
    # The server treats alpha, palettes, profiles and orientation as the model's recipe says.
    file = io.BytesIO()
    try:
        picture.save(file, "PNG", compress_level=1, exif=picture.getexif())
    except (OSError, ValueError) as error:
        raise InvalidImageError(
            f"a Pillow image of mode {picture.mode} cannot be sent: use image.convert('RGB')"
        ) from error
    return pb.Image(encoded=file.getvalue())
