"""From probabilities to the most probable classes."""

from operator import itemgetter

import numpy as np
from numpy.typing import NDArray

_FEW_CLASSES = 64
"""numpy lets the interpreter lock go to sort even ten numbers, and to get it back takes longer than
to sort so few without numpy."""


def top_classes(probabilities: NDArray[np.float32], top_k: int) -> list[tuple[int, float]]:
    """Rank the classes of one image.

    Args:
        probabilities: float32 `[classes]`.
        top_k: How many to return; 0, or more than there are, returns every class.

    Returns:
        Index and probability, most probable first; of equals, the lower index first.
    """
    if len(probabilities) <= _FEW_CLASSES:
        values: list[float] = probabilities.tolist()
        # Python's sort keeps the order of equals in reverse as well.
        ranking = sorted(enumerate(values), key=itemgetter(1), reverse=True)
        return ranking[:top_k] if top_k else ranking
    order = (-probabilities).argsort(kind="stable")
    if top_k:
        order = order[:top_k]
    return list(zip(order.tolist(), probabilities[order].tolist(), strict=True))
