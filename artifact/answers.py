"""What an answer says: which labels it predicts, and how sure it is of them.

For independent labels, these are the classical measures of the joint distribution over all sets of
labels: the most probable set, its probability, and the entropy.
"""

import numpy as np
from numpy.typing import NDArray

from convd.artifact.manifest import Task

PREDICTED_FROM = 0.5
"""An independent label is predicted from this probability on."""


def predictions(probabilities: NDArray[np.floating], task: Task) -> NDArray[np.bool_]:
    """Which labels are predicted.

    Args:
        probabilities: `[pictures, labels]`.
        task: Whether the labels exclude each other.

    Returns:
        bool `[pictures, labels]`. Multiclass: the most probable one. Multilabel: each whose
        probability is at least 0.5.
    """
    if task == "multilabel":
        return np.asarray(probabilities >= PREDICTED_FROM)
    predicted = np.zeros(probabilities.shape, np.bool_)
    predicted[np.arange(len(probabilities)), probabilities.argmax(axis=1)] = True
    return predicted


def confidences(probabilities: NDArray[np.floating], task: Task) -> NDArray[np.float64]:
    """How probable each prediction is, as a whole.

    Args:
        probabilities: `[pictures, labels]`.
        task: Whether the labels exclude each other.

    Returns:
        `[pictures]`, 0 to 1. Multiclass: the largest probability. Multilabel: the probability that
        every label is as predicted.
    """
    if task == "multilabel":
        sure = np.maximum(probabilities, 1 - probabilities).prod(axis=1, dtype=np.float64)
    else:
        sure = probabilities.max(axis=1).astype(np.float64)
    # In float32 a probability may exceed 1 by a rounding error.
    return np.asarray(sure.clip(0, 1))


def entropy_ratios(probabilities: NDArray[np.floating], task: Task) -> NDArray[np.float64]:
    """Entropy of each answer relative to the maximum.

    Args:
        probabilities: `[pictures, labels]`.
        task: Whether the labels exclude each other.

    Returns:
        `[pictures]`: 0 for a certain answer. Multiclass: 1 if all classes are equally probable.
        Multilabel: 1 if each label has a probability of one half.
    """
    if task == "multilabel":
        entropies = _entropy_terms(probabilities) + _entropy_terms(1 - probabilities)
        ratio = entropies.mean(axis=1, dtype=np.float64) / np.log(2)
    else:
        entropies = _entropy_terms(probabilities).sum(axis=1, dtype=np.float64)
        ratio = entropies / np.log(max(probabilities.shape[1], 2))
    return np.asarray(ratio.clip(0, 1))


def _entropy_terms(probabilities: NDArray[np.floating]) -> NDArray[np.floating]:
    smallest = np.finfo(np.float32).tiny
    return np.asarray(-probabilities * np.log(np.maximum(probabilities, smallest)))
