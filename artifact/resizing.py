"""The ways to bring a picture of any size to the network's size.

A new way is one class: it says what sizes a picture goes through, and does it. Add it to
`ResizeKind`.
"""

from abc import abstractmethod
from typing import Annotated, Literal, NamedTuple

import numpy as np
from PIL import Image
from pydantic import Field, PositiveInt

from convd.artifact import opencv_bilinear
from convd.artifact.frozen import FrozenModel

Interpolation = Literal[
    "nearest", "box", "bilinear", "hamming", "bicubic", "lanczos", "opencv_bilinear"
]
"""A resampling filter: Pillow's, antialiased but for `nearest`, or OpenCV's `INTER_LINEAR`, which
is bilinear and not antialiased."""

Color = tuple[
    Annotated[int, Field(ge=0, le=255)],
    Annotated[int, Field(ge=0, le=255)],
    Annotated[int, Field(ge=0, le=255)],
]
"""Red, green and blue, 0 to 255."""

BLACK: Color = (0, 0, 0)


class ImageSize(NamedTuple):
    """Height and width in pixels."""

    height: int
    width: int


class ResizeSizes(NamedTuple):
    """The sizes that a picture goes through.

    Attributes:
        padded: Before it is scaled; its own size where nothing is added.
        scaled: After that.
        final: In the end; the scaled size where nothing is added.
    """

    padded: ImageSize
    scaled: ImageSize
    final: ImageSize


class Resize(FrozenModel):
    """One way to scale a picture."""

    @property
    @abstractmethod
    def output_size(self) -> ImageSize | None:
        """The size of every scaled picture; None where it depends on the picture."""

    @abstractmethod
    def sizes(self, width: int, height: int) -> ResizeSizes:
        """The sizes that a picture of `width` x `height` pixels goes through."""

    @abstractmethod
    def apply(self, picture: Image.Image, interpolation: Interpolation) -> Image.Image:
        """Scale a picture of mode `L` or `RGB`."""

    @abstractmethod
    def describe(self) -> str:
        """It in words, such as `to 224 x 224`."""


class ResizeShorterSide(Resize):
    """Scale so that the shorter side has `size` pixels, keeping the aspect ratio.

    As torchvision's `Resize(size)`.
    """

    kind: Literal["shorter_side"] = "shorter_side"
    size: PositiveInt

    @property
    def output_size(self) -> None:
        """It depends on the picture."""
        return None

    def sizes(self, width: int, height: int) -> ResizeSizes:
        """The longer side follows the shorter one."""
        # Truncate rather than round, as torchvision does for the longer side.
        if width <= height:
            scaled = ImageSize(int(self.size * height / width), self.size)
        else:
            scaled = ImageSize(self.size, int(self.size * width / height))
        return ResizeSizes(ImageSize(height, width), scaled, scaled)

    def apply(self, picture: Image.Image, interpolation: Interpolation) -> Image.Image:
        """Scale."""
        return _scaled(picture, self.sizes(*picture.size).scaled, interpolation)

    def describe(self) -> str:
        """It in words."""
        return f"shorter side to {self.size}"


class ResizeTo(Resize):
    """Scale to exactly `height` x `width` pixels, ignoring the aspect ratio.

    As torchvision's `Resize((height, width))`.
    """

    kind: Literal["fixed"] = "fixed"
    height: PositiveInt
    width: PositiveInt

    @property
    def output_size(self) -> ImageSize:
        """Always the same."""
        return ImageSize(self.height, self.width)

    def sizes(self, width: int, height: int) -> ResizeSizes:
        """Nothing is added."""
        return ResizeSizes(ImageSize(height, width), self.output_size, self.output_size)

    def apply(self, picture: Image.Image, interpolation: Interpolation) -> Image.Image:
        """Scale."""
        return _scaled(picture, self.output_size, interpolation)

    def describe(self) -> str:
        """It in words."""
        return f"to {self.height} x {self.width}"


class Letterbox(Resize):
    """Scale to fit into `height` x `width` pixels, then fill the rest on both sides.

    As Pillow's `ImageOps.pad`; where the shorter side rounds to nothing, only the colour is left.
    """

    kind: Literal["letterbox"] = "letterbox"
    height: PositiveInt
    width: PositiveInt
    color: Color = BLACK

    @property
    def output_size(self) -> ImageSize:
        """Always the same."""
        return ImageSize(self.height, self.width)

    def sizes(self, width: int, height: int) -> ResizeSizes:
        """The picture is scaled by the side that is too long."""
        own, target = width / height, self.width / self.height
        scaled = self.output_size
        if own > target:
            scaled = ImageSize(round(height / width * self.width), self.width)
        elif own < target:
            scaled = ImageSize(self.height, round(width / height * self.height))
        return ResizeSizes(ImageSize(height, width), scaled, self.output_size)

    def apply(self, picture: Image.Image, interpolation: Interpolation) -> Image.Image:
        """Scale, then pad."""
        size = self.sizes(*picture.size).scaled
        if 0 in size:
            return Image.new(picture.mode, (self.width, self.height), _fill(picture, self.color))
        scaled = _scaled(picture, size, interpolation)
        left = round((self.width - scaled.width) / 2)
        top = round((self.height - scaled.height) / 2)
        return _on_canvas(scaled, self.output_size, self.color, left, top)

    def describe(self) -> str:
        """It in words."""
        return f"to fit into {self.height} x {self.width}, filled with {describe_color(self.color)}"


class PadToSquare(Resize):
    """Fill the shorter side on both ends until the picture is square, then scale it to `size`.

    As torchvision's `Pad` on a picture, with the odd pixel below or on the right, and `Resize`.
    """

    kind: Literal["pad_to_square"] = "pad_to_square"
    size: PositiveInt
    color: Color = BLACK

    @property
    def output_size(self) -> ImageSize:
        """Always the same."""
        return ImageSize(self.size, self.size)

    def sizes(self, width: int, height: int) -> ResizeSizes:
        """The square has the longer side."""
        side = max(width, height)
        return ResizeSizes(ImageSize(side, side), self.output_size, self.output_size)

    def apply(self, picture: Image.Image, interpolation: Interpolation) -> Image.Image:
        """Pad, then scale."""
        side = max(picture.size)
        left, top = (side - picture.width) // 2, (side - picture.height) // 2
        square = _on_canvas(picture, ImageSize(side, side), self.color, left, top)
        return _scaled(square, self.output_size, interpolation)

    def describe(self) -> str:
        """It in words."""
        return f"padded to a square with {describe_color(self.color)}, to {self.size} x {self.size}"


ResizeKind = Annotated[
    ResizeShorterSide | ResizeTo | Letterbox | PadToSquare, Field(discriminator="kind")
]
"""Any way to scale, told apart by `kind` in a manifest."""


def describe_color(color: Color) -> str:
    """A colour as `black`, `white` or `#rrggbb`."""
    text = "#{:02x}{:02x}{:02x}".format(*color)
    return {"#000000": "black", "#ffffff": "white"}.get(text, text)


def _scaled(picture: Image.Image, size: ImageSize, interpolation: Interpolation) -> Image.Image:
    if picture.size == (size.width, size.height):
        return picture
    if interpolation == "opencv_bilinear":
        return Image.fromarray(opencv_bilinear.resize(np.asarray(picture), *size))
    return picture.resize((size.width, size.height), Image.Resampling[interpolation.upper()])


def _on_canvas(
    picture: Image.Image, size: ImageSize, color: Color, left: int, top: int
) -> Image.Image:
    if picture.size == (size.width, size.height):
        return picture
    canvas = Image.new(picture.mode, (size.width, size.height), _fill(picture, color))
    canvas.paste(picture, (left, top))
    return canvas


def _fill(picture: Image.Image, color: Color) -> Color | int:
    """A colour for a picture's mode; gray as Pillow turns a picture of that colour gray."""
    if picture.mode == "RGB":
        return color
    return Image.new("RGB", (1, 1), color).convert("L").tobytes()[0]
