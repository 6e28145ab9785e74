"""Drawn pictures of a dog, a cat, a boat or a bird: a data set that needs no file and no network.

Each picture has one object of any size, place, colour and turn on a ground of its own, and is drawn
from its number alone, so everybody has the same pictures. The box of the object is known.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from convd.models.augmentation import Augmentation
from convd.models.data.dataset import DatasetSplits

LABELS = ("dog", "cat", "boat", "bird")
SIDE = 64
"""Height and width of every picture, in pixels."""

SHARES = (0.5, 0.9)
TRAIN_PICTURES = 2400
HELD_OUT_PICTURES = 400

_FIGURE = 128
"""Side of the sheet that an object is drawn on, before it is turned and scaled."""

Color = tuple[int, int, int]


class Box(NamedTuple):
    """Where an object is, in pixels; right and bottom are just outside."""

    left: int
    top: int
    right: int
    bottom: int


class Drawing(NamedTuple):
    """A drawn picture, mode `RGB`, and the box of its object."""

    picture: Image.Image
    box: Box


class DrawnDataset:
    """Drawn pictures, in turn of each class.

    Args:
        pictures: How many.
        seed: Which ones: two data sets of different seeds have no picture in common.
        shares: Smallest and largest longer side of an object, as shares of the picture's side.
    """

    labels: tuple[str, ...] = LABELS

    def __init__(self, pictures: int, seed: int, *, shares: tuple[float, float] = SHARES) -> None:
        self._pictures = pictures
        self._seed = seed
        self._shares = shares

    def __len__(self) -> int:
        return self._pictures

    def picture(self, index: int) -> Image.Image:
        """Draw one picture, of mode `RGB`."""
        return self.drawing(index).picture

    def target(self, index: int) -> int:
        """Index of its class in `labels`."""
        return index % len(LABELS)

    def drawing(self, index: int) -> Drawing:
        """Draw one picture with the box of its object."""
        return draw(LABELS[self.target(index)], (self._seed, index), shares=self._shares)


def load_drawn_splits(seed: int) -> DatasetSplits:
    """Drawn pictures to train on, and others that are held out.

    Args:
        seed: Which ones.
    """
    return DatasetSplits(
        train=DrawnDataset(TRAIN_PICTURES, 2 * seed),
        held_out=DrawnDataset(HELD_OUT_PICTURES, 2 * seed + 1),
        held_out_name=f"{HELD_OUT_PICTURES} other drawn pictures, seed {seed}",
        channels=3,
        keep_aspect_ratio=False,
        augmentation=Augmentation(shift=0.06, flip=True),
    )


def draw(
    label: str,
    number: tuple[int, int],
    *,
    size: tuple[int, int] = (SIDE, SIDE),
    shares: tuple[float, float] = SHARES,
) -> Drawing:
    """Draw an object.

    Args:
        label: One of `LABELS`.
        number: Everything else about the picture.
        size: Width and height of the picture.
        shares: Smallest and largest longer side of the object, as shares of the shorter side.
    """
    random = np.random.default_rng([LABELS.index(label), *number])
    width, height = size
    ground = _ground(random, width, height)
    figure = Image.new("RGBA", (_FIGURE, _FIGURE))
    first, second = _colors(random, np.asarray(ground).mean(axis=(0, 1)))
    _FIGURES[label](_Pen(figure), first, second, random)
    if random.random() < 0.5:
        figure = figure.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    figure = figure.rotate(random.uniform(-25, 25), Image.Resampling.BICUBIC, expand=True)
    figure = figure.crop(figure.getbbox())
    longer = random.uniform(*shares) * min(width, height)
    scale = longer / max(figure.size)
    figure = figure.resize(
        tuple(max(1, round(side * scale)) for side in figure.size),  # type: ignore[arg-type]
        Image.Resampling.LANCZOS,
    )
    left = int(random.integers(0, width - figure.width + 1))
    top = int(random.integers(0, height - figure.height + 1))
    ground.paste(figure, (left, top), figure)
    noise = random.normal(0, random.uniform(2, 10), (height, width, 3))
    pixels = (np.asarray(ground) + noise).clip(0, 255).astype(np.uint8)
    box = Box(left, top, left + figure.width, top + figure.height)
    return Drawing(Image.fromarray(pixels), box)


class _Pen:
    """Draws on a sheet whose sides reach from -1 to 1, downwards and to the right."""

    def __init__(self, sheet: Image.Image) -> None:
        self._draw = ImageDraw.Draw(sheet)

    def polygon(self, points: list[tuple[float, float]], color: Color) -> None:
        self._draw.polygon([_point(x, y) for x, y in points], fill=color)

    def ellipse(self, x: float, y: float, across: float, down: float, color: Color) -> None:
        self._draw.ellipse([_point(x - across, y - down), _point(x + across, y + down)], fill=color)

    def line(self, points: list[tuple[float, float]], width: float, color: Color) -> None:
        thickness = round(width * _FIGURE / 2)
        self._draw.line([_point(x, y) for x, y in points], color, thickness, joint="curve")


def _point(x: float, y: float) -> tuple[float, float]:
    return (x + 1) * _FIGURE / 2, (y + 1) * _FIGURE / 2


def _dog(pen: _Pen, first: Color, second: Color, random: np.random.Generator) -> None:
    """From the side: long body, four legs, snout, an ear that hangs, a tail that stands."""
    for x in (-0.55, -0.35, 0.2, 0.4):
        pen.line([(x, 0.2), (x + random.uniform(-0.08, 0.08), 0.85)], 0.13, first)
    pen.ellipse(-0.08, 0.12, 0.62, 0.27, first)
    pen.line([(-0.6, 0.02), (-0.85, -0.3 + random.uniform(-0.15, 0.15))], 0.1, first)
    pen.polygon([(0.3, 0.1), (0.35, -0.35), (0.65, -0.35), (0.6, 0.15)], first)
    pen.ellipse(0.5, -0.35, 0.24, 0.22, first)
    pen.polygon([(0.55, -0.45), (0.95, -0.36), (0.95, -0.18), (0.55, -0.16)], first)
    pen.ellipse(0.36, -0.25, 0.1, 0.24, second)
    pen.ellipse(0.94, -0.3, 0.055, 0.055, (15, 15, 15))
    pen.ellipse(0.58, -0.42, 0.045, 0.045, (15, 15, 15))


def _cat(pen: _Pen, first: Color, second: Color, random: np.random.Generator) -> None:
    """From the front: sits, with pointed ears, whiskers and a curled tail."""
    lift = random.uniform(-0.15, 0.15)
    pen.line([(0.3, 0.75), (0.75, 0.7), (0.8, 0.25 + lift), (0.62, 0.1 + lift)], 0.12, first)
    pen.ellipse(0, 0.5, 0.42, 0.45, first)
    pen.ellipse(0, 0.62, 0.2, 0.3, second)
    for side in (-1, 1):
        pen.polygon([(side * 0.46, -0.85), (side * 0.48, -0.2), (side * 0.08, -0.48)], first)
        pen.polygon([(side * 0.4, -0.7), (side * 0.4, -0.4), (side * 0.2, -0.52)], second)
    pen.ellipse(0, -0.2, 0.48, 0.4, first)
    for side in (-1, 1):
        pen.ellipse(side * 0.19, -0.26, 0.085, 0.1, (230, 220, 60))
        pen.ellipse(side * 0.19, -0.26, 0.03, 0.09, (15, 15, 15))
        for slope in (-0.06, 0.06):
            pen.line([(side * 0.15, -0.05), (side * 0.7, -0.05 + slope)], 0.025, (15, 15, 15))
    pen.polygon([(-0.06, -0.12), (0.06, -0.12), (0, -0.04)], (200, 90, 100))


def _boat(pen: _Pen, first: Color, second: Color, random: np.random.Generator) -> None:
    """A hull, a mast and two sails."""
    lean = random.uniform(-0.08, 0.08)
    pen.line([(0.02, 0.4), (0.02 + lean, -0.9)], 0.06, (80, 55, 35))
    pen.polygon([(0.08, -0.8), (0.08, 0.28), (0.72 + lean, 0.28)], second)
    pen.polygon([(-0.06, -0.62), (-0.06, 0.28), (-0.55 + lean, 0.28)], second)
    pen.polygon([(-0.9, 0.36), (0.9, 0.36), (0.6, 0.82), (-0.62, 0.82)], first)
    pen.line([(-0.85, 0.44), (0.85, 0.44)], 0.05, second)


def _bird(pen: _Pen, first: Color, second: Color, random: np.random.Generator) -> None:
    """From the side: wings up, a beak, a forked tail and thin legs."""
    up = random.uniform(-0.15, 0.15)
    pen.polygon([(-0.4, 0.1), (-0.95, -0.08), (-0.75, 0.1), (-0.95, 0.28)], first)
    for x in (-0.02, 0.14):
        pen.line([(x, 0.35), (x + 0.03, 0.72)], 0.04, (210, 130, 40))
    pen.ellipse(0, 0.15, 0.5, 0.26, first)
    pen.ellipse(0.5, -0.12, 0.2, 0.2, first)
    pen.polygon([(0.66, -0.2), (0.98, -0.1), (0.66, -0.02)], (235, 150, 30))
    pen.polygon([(-0.3, 0.1), (0.22, 0.1), (-0.25, -0.85 + up), (-0.5, -0.6 + up)], second)
    pen.ellipse(0.55, -0.17, 0.045, 0.045, (15, 15, 15))


_FIGURES: dict[str, Callable[[_Pen, Color, Color, np.random.Generator], None]] = {
    "dog": _dog,
    "cat": _cat,
    "boat": _boat,
    "bird": _bird,
}


def _colors(random: np.random.Generator, ground: NDArray[np.floating]) -> tuple[Color, Color]:
    """Two colours that differ from the ground and from each other."""
    while True:
        first, second = random.integers(20, 236, (2, 3))
        apart = min(np.abs(first - ground).sum(), np.abs(first - second).sum())
        if apart > 150 and np.abs(second - ground).sum() > 90:
            return _color(first), _color(second)


def _color(values: NDArray[np.integer]) -> Color:
    red, green, blue = (int(value) for value in values)
    return red, green, blue


def _ground(random: np.random.Generator, width: int, height: int) -> Image.Image:
    """Shades around one colour with blurred spots: the class cannot be told from it."""
    middle = random.integers(40, 216, 3)

    def shade(around: int) -> NDArray[np.integer]:
        return (middle + random.integers(-around, around + 1, 3)).clip(0, 255)

    corners = np.array([[shade(40) for _ in range(2)] for _ in range(2)], np.uint8)
    ground = Image.fromarray(corners).resize((width, height), Image.Resampling.BICUBIC)
    pen = ImageDraw.Draw(ground)
    for _ in range(random.integers(0, 5)):
        x, y = random.uniform(0, width), random.uniform(0, height)
        radius = random.uniform(0.05, 0.2) * min(width, height)
        pen.ellipse([x - radius, y - radius, x + radius, y + radius], fill=_color(shade(70)))
    return ground.filter(ImageFilter.GaussianBlur(random.uniform(1, 4) * min(width, height) / 64))
