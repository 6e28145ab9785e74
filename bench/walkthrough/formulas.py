"""The formulas of the walkthrough, written as one would with pencil and paper.

Nothing here uses a deep-learning library, so that what the layers of PyTorch give can be compared
with it.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.floating]

EDGES: Matrix = np.array([[-1, -1, -1], [-1, 8, -1], [-1, -1, -1]], float)
SHARPEN: Matrix = np.array([[0, -1, 0], [-1, 5, -1], [0, -1, 0]], float)
BLUR: Matrix = np.full((5, 5), 1 / 25)

FIVE_BY_FIVE: Matrix = np.array(
    [[1, 1, 1, 0, 0], [0, 1, 1, 1, 0], [0, 0, 1, 1, 1], [0, 0, 1, 1, 0], [0, 1, 1, 0, 0]], float
)
THREE_BY_THREE: Matrix = np.array([[1, 0, 1], [0, 1, 0], [1, 0, 1]], float)


def gray(picture: Matrix) -> Matrix:
    """How bright each pixel is: 0.299 red + 0.587 green + 0.114 blue (ITU-R BT.601).

    Args:
        picture: `[height, width, 3]`.
    """
    return np.asarray(picture @ np.array([0.299, 0.587, 0.114]))


def convolve(image: Matrix, kernel: Matrix, *, stride: int = 1, padding: int = 0) -> Matrix:
    """Slide a filter over a picture: at each place, multiply what lies under it and add it up.

    Args:
        image: `[height, width]`.
        kernel: `[rows, columns]`.
        stride: How far the filter moves.
        padding: Rings of zeros around the picture.
    """
    image = np.pad(image, padding)
    rows = output_size(image.shape[0], kernel.shape[0], stride)
    columns = output_size(image.shape[1], kernel.shape[1], stride)
    result = np.zeros((rows, columns))
    for row in range(rows):
        for column in range(columns):
            top, left = row * stride, column * stride
            under = image[top : top + kernel.shape[0], left : left + kernel.shape[1]]
            result[row, column] = (under * kernel).sum()
    return result


def output_size(size: int, kernel: int, stride: int = 1, padding: int = 0) -> int:
    """Height or width of a feature map: (size - kernel + 2 padding) / stride + 1, rounded down."""
    return (size - kernel + 2 * padding) // stride + 1


def relu(values: Matrix) -> Matrix:
    """Replace what is negative by 0."""
    return np.maximum(values, 0)


POOLINGS: dict[str, Callable[[Matrix], float]] = {
    "max": lambda window: float(window.max()),
    "average": lambda window: float(window.mean()),
    "sum": lambda window: float(window.sum()),
}


def pool(values: Matrix, kind: str, size: int = 2) -> Matrix:
    """Make one number of each window: its largest, its mean or its sum."""
    rows, columns = (side // size for side in values.shape)
    windows = values[: rows * size, : columns * size].reshape(rows, size, columns, size)
    flat = windows.swapaxes(1, 2).reshape(rows, columns, -1)
    return np.apply_along_axis(POOLINGS[kind], 2, flat)


def softmax(logits: Matrix) -> Matrix:
    """Probabilities: e to each logit, divided by the sum of them all."""
    powers = np.exp(logits - logits.max())
    return np.asarray(powers / powers.sum())


def fully_connected(values: Matrix, weights: Matrix, bias: Matrix) -> Matrix:
    """Each output is the sum of all inputs, each times a weight of its own, and a bias."""
    return np.asarray(weights @ values + bias)


def total_error(target: Matrix, output: Matrix) -> float:
    """Half the sum of the squared differences."""
    return float(0.5 * ((target - output) ** 2).sum())


def cross_entropy(output: Matrix, target: int, smoothing: float) -> float:
    """The mean of -ln(probability), in which each class has a weight.

    Args:
        output: Probabilities.
        target: Index of the true class.
        smoothing: What all classes share evenly; the true class has the rest as well.
    """
    weights = np.full(len(output), smoothing / len(output))
    weights[target] += 1 - smoothing
    return float(-(weights * np.log(output)).sum())


def convolution_parameters(filters: int, channels: int, kernel: int) -> int:
    """Numbers that a layer of square filters learns: their weights, and a bias for each."""
    return filters * (channels * kernel * kernel + 1)


def moved(before: Matrix, after: Matrix) -> float:
    """How much probability has gone from some classes to others, 0 to 1 (total variation)."""
    return float(0.5 * np.abs(before - after).sum(axis=-1).mean())


def shifted(image: NDArray[np.uint8], pixels: int) -> NDArray[np.uint8]:
    """Move a picture to the right; the column at the edge is repeated."""
    width = image.shape[1]
    return image[:, np.clip(np.arange(width) - pixels, 0, width - 1)]
