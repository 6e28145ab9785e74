"""Ranks classes by probability."""

from operator import itemgetter

import numpy as np
from numpy.typing import NDArray

_FEW_CLASSES = 64
"""numpy releases the interpreter lock even to sort ten numbers, and getting the lock back takes
longer than sorting so few in Python."""


def top_classes(probabilities: NDArray[np.float32], top_k: int) -> list[tuple[int, float]]:
    """Rank the classes of one image.

    Args:
        probabilities: float32 `[classes]`.
        top_k: Number of classes to return; 0, or more than exist, returns all.

    Returns:
        Index and probability, most probable first; ties in index order.
    """
    if len(probabilities) <= _FEW_CLASSES:
        values: list[float] = probabilities.tolist()
        # Python's sort is stable in reverse as well.
        ranking = sorted(enumerate(values), key=itemgetter(1), reverse=True)
        return ranking[:top_k] if top_k else ranking
    order = (-probabilities).argsort(kind="stable")
    if top_k:
        order = order[:top_k]
    return list(zip(order.tolist(), probabilities[order].tolist(), strict=True))
