"""From probabilities to the most probable classes."""

import numpy as np
from numpy.typing import NDArray


def top_classes(probabilities: NDArray[np.float32], top_k: int) -> list[tuple[int, float]]:
    """Rank the classes of one image.

    Args:
        probabilities: float32 `[classes]`.
        top_k: How many to return; 0, or more than there are, returns every class.

    Returns:
        Index and probability, most probable first; of equals, the lower index first.
    """
    if top_k == 1:
        best = int(probabilities.argmax())
        return [(best, float(probabilities[best]))]
    order = (-probabilities).argsort(kind="stable")
    if top_k:
        order = order[:top_k]
    return list(zip(order.tolist(), probabilities[order].tolist(), strict=True))
