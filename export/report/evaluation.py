"""How a network answers pictures of which it is known what they show."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

from convd.artifact.answers import confidences, predictions
from convd.artifact.evidence import Accuracy, Baseline
from convd.artifact.manifest import Task
from convd.export.sources.labelled_pictures import Truth

CONFIDENCE_BINS = 20
RELIABILITY_BINS = 15


@dataclass(frozen=True)
class Evaluation:
    """The answers to the evaluation data.

    Attributes:
        probabilities: float32 `[pictures, labels]`.
        logits: float32 `[pictures, labels]`.
        truth: Which labels are true of each picture, bool `[pictures, labels]`.
        task: Whether the labels exclude each other.
        data: Which pictures they are, in words.
    """

    probabilities: NDArray[np.float32]
    logits: NDArray[np.float32]
    truth: Truth
    task: Task
    data: str

    @property
    def predicted(self) -> NDArray[np.bool_]:
        """Which labels are predicted for each picture, bool `[pictures, labels]`."""
        return predictions(self.probabilities, self.task)

    def accuracy(self) -> Accuracy:
        """How often the network is right."""
        best = self.probabilities.argmax(axis=1)
        labelled = self.truth.any(axis=1)
        right = self.truth[np.arange(len(best)), best][labelled]
        return Accuracy(
            top1=float(right.mean()) if labelled.any() else 0.0,
            mean_average_precision=self._mean_average_precision(),
            examples=len(self.truth),
            data=self.data,
        )

    def confusion(self) -> NDArray[np.int64]:
        """Number of pictures per true class (row) and predicted class (column)."""
        counts: NDArray[np.int64] = self.truth.T.astype(np.int64) @ self.predicted.astype(np.int64)
        return counts

    def baseline(self) -> Baseline:
        """The distribution of answers that serving can be compared with."""
        examples = len(self.probabilities)
        confidence = confidences(self.probabilities, self.task)
        counts, _ = np.histogram(confidence, bins=CONFIDENCE_BINS, range=(0, 1))
        return Baseline(
            data=self.data,
            examples=examples,
            predicted_shares=tuple((self.predicted.sum(axis=0) / examples).tolist()),
            confidence_shares=tuple((counts / examples).tolist()),
        )

    def _mean_average_precision(self) -> float | None:
        """Over the labels that are true of any picture; None for a multiclass network."""
        if self.task == "multiclass":
            return None
        known = self.truth.any(axis=0)
        if not known.any():
            return None
        scores = [
            average_precision_score(self.truth[:, label], self.probabilities[:, label])
            for label in np.flatnonzero(known)
        ]
        return float(np.mean(scores))


class Reliability(NamedTuple):
    """How often decisions are right, by how sure they are.

    Attributes:
        counts: Decisions in each of equally wide bins of confidence, int64 `[bins]`.
        accuracy: Share of them that are right; 0 where a bin is empty.
        confidence: Mean confidence of them; 0 where a bin is empty.
    """

    counts: NDArray[np.int64]
    accuracy: NDArray[np.float64]
    confidence: NDArray[np.float64]

    @property
    def expected_error(self) -> float:
        """Expected calibration error, 0 to 1 (Naeini et al., 2015)."""
        gaps = np.abs(self.accuracy - self.confidence)
        return float((gaps * self.counts).sum() / self.counts.sum())


def reliability(probabilities: NDArray[np.float32], truth: Truth, task: Task) -> Reliability:
    """Sort decisions into bins of confidence.

    Multiclass: one decision for each picture, its most probable class. Multilabel: one for each
    picture and label, whether it is true.

    Args:
        probabilities: float32 `[pictures, labels]`.
        truth: bool `[pictures, labels]`.
        task: Whether the labels exclude each other.
    """
    if task == "multilabel":
        confidence = np.maximum(probabilities, 1 - probabilities).ravel().astype(np.float64)
        right = (predictions(probabilities, task) == truth).ravel().astype(np.float64)
    else:
        best = probabilities.argmax(axis=1)
        confidence = probabilities.max(axis=1).astype(np.float64)
        right = truth[np.arange(len(best)), best].astype(np.float64)
    bins = np.minimum((confidence * RELIABILITY_BINS).astype(np.int64), RELIABILITY_BINS - 1)
    counts = np.bincount(bins, minlength=RELIABILITY_BINS)
    full = np.maximum(counts, 1)
    return Reliability(
        counts,
        np.bincount(bins, weights=right, minlength=RELIABILITY_BINS) / full,
        np.bincount(bins, weights=confidence, minlength=RELIABILITY_BINS) / full,
    )
