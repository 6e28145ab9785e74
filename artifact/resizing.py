"""The ways to bring a picture of any size to the network's size.

A new way is one class: it says what sizes a picture goes through, and does it. Add it to
`ResizeKind`.
"""

from abc import abstractmethod
from typing import Annotated, Literal, NamedTuple

from PIL import Image
from pydantic import Field, PositiveInt

from convd.artifact.frozen import FrozenModel
from convd.artifact.scaling import (
    BLACK,
    Color,
    ImageSize,
    Interpolation,
    describe_color,
    on_canvas,
    scaled,
)


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
        """Scale a picture of mode `L` or `RGB`.

        Raises:
            InvalidImageError: It is so elongated that it would become huge.
        """

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
            size = ImageSize(int(self.size * height / width), self.size)
        else:
            size = ImageSize(self.size, int(self.size * width / height))
        return ResizeSizes(ImageSize(height, width), size, size)

    def apply(self, picture: Image.Image, interpolation: Interpolation) -> Image.Image:
        """Scale."""
        return scaled(picture, self.sizes(*picture.size).scaled, interpolation)

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
        return scaled(picture, self.output_size, interpolation)

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
        inner = self.output_size
        if own > target:
            inner = ImageSize(round(height / width * self.width), self.width)
        elif own < target:
            inner = ImageSize(self.height, round(width / height * self.height))
        return ResizeSizes(ImageSize(height, width), inner, self.output_size)

    def apply(self, picture: Image.Image, interpolation: Interpolation) -> Image.Image:
        """Scale, then pad."""
        inner = scaled(picture, self.sizes(*picture.size).scaled, interpolation)
        left = round((self.width - inner.width) / 2)
        top = round((self.height - inner.height) / 2)
        return on_canvas(inner, self.output_size, self.color, left, top)

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
        square = on_canvas(picture, ImageSize(side, side), self.color, left, top)
        return scaled(square, self.output_size, interpolation)

    def describe(self) -> str:
        """It in words."""
        return f"padded to a square with {describe_color(self.color)}, to {self.size} x {self.size}"


ResizeKind = Annotated[
    ResizeShorterSide | ResizeTo | Letterbox | PadToSquare, Field(discriminator="kind")
]
"""Any way to scale, told apart by `kind` in a manifest."""
