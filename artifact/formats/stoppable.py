"""Pillow, reading from something that can make it stop."""

import io
from collections.abc import Callable

from PIL import Image

from convd.artifact.formats.header import PictureFormat

# Pillow's own bound is one for the whole process, and warns or raises before ours is looked at.
Image.MAX_IMAGE_PIXELS = None


class _StoppableFile(io.BytesIO):
    """A file that asks before every read whether anybody still wants the picture.

    Pillow reads 64 kB at a time, and run-length pixels byte by byte; an exception from `read` is
    the only way to stop it.
    """

    def __init__(self, data: bytes, check: Callable[[], None]) -> None:
        super().__init__(data)
        self._check = check

    def read(self, size: int | None = -1, /) -> bytes:
        self._check()
        return super().read(size)


def open_stoppable(
    data: bytes, image_format: PictureFormat, check: Callable[[], None]
) -> Image.Image:
    """Open a file with Pillow, without decoding its pixels.

    Args:
        data: The file.
        image_format: What it is.
        check: Called before every read; an exception from it ends the decoding.

    Raises:
        Exception: Nearly anything, where the file is damaged.
    """
    return Image.open(_StoppableFile(data, check), formats=(image_format,))
