"""What a picture's header says, read before anything is allocated for its pixels."""

from dataclasses import dataclass
from typing import Literal

from convd.artifact.errors import InvalidImageError

PictureFormat = Literal["JPEG", "PNG", "WEBP", "BMP"]

PictureMode = Literal["1", "L", "P", "I;16", "LA", "RGB", "RGBA", "CMYK"]

STORED_BYTES: dict[PictureMode, int] = {
    "1": 1,
    "L": 1,
    "P": 1,
    "I;16": 2,
    "LA": 4,
    "RGB": 4,
    "RGBA": 4,
    "CMYK": 4,
}
"""Bytes that Pillow keeps for one pixel; RGB is padded to four."""

MAX_SIDE = 65_535
"""Longest side that is decoded, as in JPEG: Pillow keeps a pointer for every row."""


@dataclass(frozen=True, slots=True)
class PictureHeader:
    """What a header says of a picture.

    Attributes:
        format: The file's format.
        width: Columns.
        height: Rows.
        mode: Pillow's mode of the decoded picture.
        decoding_bytes: Upper bound of the memory that decoding takes, the decoded picture included.
    """

    format: PictureFormat
    width: int
    height: int
    mode: PictureMode
    decoding_bytes: int

    @property
    def pixels(self) -> int:
        """Width x height."""
        return self.width * self.height

    def check_size(self, max_pixels: int) -> None:
        """Refuse a picture that is too large.

        Args:
            max_pixels: Largest width x height that is accepted.

        Raises:
            InvalidImageError: It is larger, has no pixels at all, or a side over `MAX_SIDE`.
        """
        size = f"{self.width} x {self.height}"
        if self.width < 1 or self.height < 1:
            raise InvalidImageError(f"the picture has {size} pixels: send one that is not empty")
        if self.pixels > max_pixels:
            raise InvalidImageError(
                f"the picture has {size} pixels, over the limit of {max_pixels} "
                "(--max-image-pixels): send a smaller one"
            )
        if max(self.width, self.height) > MAX_SIDE:
            raise InvalidImageError(
                f"the picture has {size} pixels, and a side may have at most {MAX_SIDE}: send one "
                "that is less elongated"
            )

    def check_decoder(self, width: int, height: int) -> None:
        """Refuse a file whose decoder would make a picture of another size than was reckoned.

        Args:
            width: Columns that the decoder has found, before it allocates any.
            height: Its rows.

        Raises:
            InvalidImageError: They differ from the header's.
        """
        if (width, height) != (self.width, self.height):
            what = f"it has two sizes, {self.width} x {self.height} and {width} x {height}"
            raise damaged(what, self.format)


def damaged(what: str, image_format: PictureFormat) -> InvalidImageError:
    """The error for a file that was recognised and cannot be decoded.

    Args:
        what: What is wrong, such as "the file ends before its pixels do".
        image_format: What the file is.
    """
    return InvalidImageError(f"the image is damaged: {what}; send the whole {image_format} file")
