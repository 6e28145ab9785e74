"""Drift: how far the recent predictions are from those on the evaluation data.

The population stability index compares two distributions over the same bins, `sum((p - q) ln(p/q))`
(Lewis, "An Introduction to Credit Scoring", 1994; it is the symmetrised divergence of Jeffreys,
1946). By the usual rule of thumb, below 0.1 nothing has changed, and above 0.25 much has.
"""

import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convd.artifact.evidence import Baseline
from convd.artifact.manifest import Task

WINDOW_PREDICTIONS = 500
"""How many of the most recent predictions are compared with the baseline.

With this many and 20 bins, chance alone gives an index of about 0.04 + 19 / baseline examples.
"""

_MAX_GROUPS = 20


def stability_index(
    counts: NDArray[np.integer[Any]], baseline_shares: NDArray[np.float64]
) -> float:
    """Compute the population stability index of counts against a baseline.

    Half an observation is added to every bin, and the same share of the baseline to each of its
    bins, so that an empty bin does not make the index infinite and equal distributions still give
    0.

    Args:
        counts: `[bins]`, observations in each bin.
        baseline_shares: `[bins]`, share of the baseline's examples in each bin.

    Returns:
        The index, at least 0.
    """
    total = counts.sum() + 0.5 * len(counts)
    shares = (counts + 0.5) / total
    expected = (baseline_shares * counts.sum() + 0.5) / total
    return float(((shares - expected) * np.log(shares / expected)).sum())


def group_classes(shares: NDArray[np.float64], max_groups: int = _MAX_GROUPS) -> NDArray[np.intp]:
    """Merge neighbouring classes into groups that are few enough to compare.

    A few hundred predictions over a thousand classes cannot be told from chance. Each group gets
    about the same share of the baseline.

    Args:
        shares: `[classes]`, share of the baseline's examples of each class.
        max_groups: Maximum number of groups.

    Returns:
        `[classes]`, the group of each class, ascending from 0 without gaps.
    """
    if len(shares) <= max_groups:
        return np.arange(len(shares))
    # A class belongs to the group that contains the middle of its share.
    middles = np.cumsum(shares) - shares / 2
    groups = np.minimum((middles * max_groups).astype(np.intp), max_groups - 1)
    return np.unique(groups, return_inverse=True)[1]


def largest_label_index(
    counts: NDArray[np.integer[Any]], total: int, baseline_shares: NDArray[np.float64]
) -> float:
    """Compute the stability index of the independent label that has changed most.

    Each label has a distribution of its own over two bins: predicted, and not.

    Args:
        counts: `[labels]`, how often each label was predicted.
        total: Number of predictions.
        baseline_shares: `[labels]`, how often it is predicted for the baseline's examples, 0 to 1.

    Returns:
        The index, at least 0.
    """
    return max(
        stability_index(np.array([count, total - count]), np.array([share, 1 - share]))
        for count, share in zip(counts, baseline_shares, strict=True)
    )


class DriftWindow:
    """Compares the most recent predictions of a servable with its baseline.

    Args:
        baseline: The network's predictions on its evaluation data.
        task: Whether the labels exclude each other.
        size: How many predictions are compared.
    """

    def __init__(
        self, baseline: Baseline, task: Task = "multiclass", size: int = WINDOW_PREDICTIONS
    ) -> None:
        predicted = np.array(baseline.predicted_shares)
        self._is_multilabel = task == "multilabel"
        groups = np.arange(len(predicted)) if self._is_multilabel else group_classes(predicted)
        # Where each group begins; groups are neighbours.
        self._begins = np.flatnonzero(np.diff(groups, prepend=-1))
        self._shares = np.add.reduceat(predicted, self._begins)
        self._confidence_shares = np.array(baseline.confidence_shares)
        self._size = size
        self._seen = 0
        self._recent = np.zeros((size, len(self._begins)), np.bool_)
        self._recent_bins = np.zeros(size, np.intp)
        self._lock = threading.Lock()

    def add(self, predicted: NDArray[np.bool_], confidences: NDArray[np.float64]) -> None:
        """Add predictions.

        Args:
            predicted: `[rows, labels]`, which labels are predicted.
            confidences: `[rows]`, how probable each prediction is as a whole.
        """
        bins = len(self._confidence_shares)
        predicted, confidences = predicted[-self._size :], confidences[-self._size :]
        with self._lock:
            places = (self._seen + np.arange(len(predicted))) % self._size
            self._recent[places] = np.logical_or.reduceat(predicted, self._begins, axis=1)
            self._recent_bins[places] = np.clip((confidences * bins).astype(np.intp), 0, bins - 1)
            self._seen += len(predicted)

    def indices(self) -> tuple[float, float] | None:
        """Compute the stability index of the predicted labels and of the confidence.

        Returns:
            Both, or None until the window is full, since few predictions prove nothing.
        """
        with self._lock:
            if self._seen < self._size:
                return None
            counts = self._recent.sum(axis=0)
            bins = np.bincount(self._recent_bins, minlength=len(self._confidence_shares))
        if self._is_multilabel:
            of_labels = largest_label_index(counts, self._size, self._shares)
        else:
            of_labels = stability_index(counts, self._shares)
        return of_labels, stability_index(bins, self._confidence_shares)
