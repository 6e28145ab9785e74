"""Pictures that are drawn: bright shapes of any colour, size and place on a dark, noisy ground."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

SHAPES = ("circle", "cross", "square", "triangle")

_SIDE = 96
_MARGIN = 6
_CORNERS = {
    "cross": [(-1, -0.3), (-0.3, -0.3), (-0.3, -1), (0.3, -1), (0.3, -0.3), (1, -0.3)],
    "square": [(-0.85, -0.85), (0.85, -0.85), (0.85, 0.85), (-0.85, 0.85)],
    "triangle": [(0, -1), (0.87, 0.5), (-0.87, 0.5)],
}
_CORNERS["cross"] += [(-x, -y) for x, y in _CORNERS["cross"]]


def draw(shape: str, seed: int) -> Image.Image:
    """Draw one shape; the class cannot be told from colour, size, place or brightness.

    Args:
        shape: One of `SHAPES`.
        seed: Everything else about the picture.

    Returns:
        An RGB picture of 96 x 96 pixels.
    """
    generator = np.random.default_rng([SHAPES.index(shape), seed])
    ground = generator.integers(0, 90, 3)
    colour = generator.integers(110, 256, 3)
    radius = generator.uniform(14, 30)
    x, y = generator.uniform(radius + _MARGIN, _SIDE - radius - _MARGIN, 2)
    picture = Image.new("RGB", (_SIDE, _SIDE), tuple(ground.tolist()))
    pen = ImageDraw.Draw(picture)
    if shape == "circle":
        pen.ellipse([x - radius, y - radius, x + radius, y + radius], fill=tuple(colour.tolist()))
    else:
        turn = generator.uniform(-0.4, 0.4)
        rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        corners = np.array(_CORNERS[shape]) @ rotation.T * radius + (x, y)
        pen.polygon([tuple(corner) for corner in corners.tolist()], fill=tuple(colour.tolist()))
    noise = generator.normal(0, 25, (_SIDE, _SIDE, 3))
    return Image.fromarray((np.asarray(picture) + noise).clip(0, 255).astype(np.uint8))


def draw_folder(root: Path, *, pictures: int) -> None:
    """Draw a folder per shape.

    Args:
        root: The folder to create.
        pictures: Pictures of each shape.
    """
    for shape in SHAPES:
        (root / shape).mkdir(parents=True)
        for number in range(pictures):
            draw(shape, number).save(root / shape / f"{number:03}.png")
