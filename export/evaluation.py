"""How a network answers pictures whose classes are known."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from convd.artifact.evidence import Accuracy, Baseline
from convd.artifact.graph_contract import OutputArrays
from convd.export.progress import Advance
from convd.models.data.prepared import Batch

CONFIDENCE_BINS = 20
RELIABILITY_BINS = 15

Run = Callable[[NDArray[np.uint8]], OutputArrays]
"""From uint8 `[batch, height, width, channels]` to the answers."""


@dataclass(frozen=True)
class Evaluation:
    """The answers to the evaluation data.

    Attributes:
        probabilities: float32 `[pictures, classes]`.
        logits: float32 `[pictures, classes]`.
        targets: int64 `[pictures]`, the true classes.
        data: Which pictures they are, in words.
    """

    probabilities: NDArray[np.float32]
    logits: NDArray[np.float32]
    targets: NDArray[np.int64]
    data: str

    @property
    def predicted(self) -> NDArray[np.int64]:
        """The most probable class of each picture, int64 `[pictures]`."""
        predicted: NDArray[np.int64] = self.probabilities.argmax(axis=1)
        return predicted

    def accuracy(self) -> Accuracy:
        """How often the most probable class is the true one."""
        top1 = float((self.predicted == self.targets).mean())
        return Accuracy(top1=top1, examples=len(self.targets), data=self.data)

    def confusion(self) -> NDArray[np.int64]:
        """Number of pictures per true class (row) and predicted class (column)."""
        classes = self.probabilities.shape[1]
        cells = np.bincount(self.targets * classes + self.predicted, minlength=classes**2)
        return cells.reshape(classes, classes)

    def baseline(self) -> Baseline:
        """The distribution of answers that serving can be compared with."""
        examples, classes = self.probabilities.shape
        predicted = np.bincount(self.predicted, minlength=classes)
        confidence = self.probabilities.max(axis=1).clip(0, 1)
        counts, _ = np.histogram(confidence, bins=CONFIDENCE_BINS, range=(0, 1))
        return Baseline(
            data=self.data,
            examples=examples,
            predicted_shares=tuple((predicted / examples).tolist()),
            confidence_shares=tuple((counts / examples).tolist()),
        )


class Reliability(NamedTuple):
    """How often a network is right, by how sure it is.

    Attributes:
        counts: Pictures in each of equally wide bins of confidence, int64 `[bins]`.
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


def reliability(probabilities: NDArray[np.float32], targets: NDArray[np.int64]) -> Reliability:
    """Sort answers into bins of confidence.

    Args:
        probabilities: float32 `[pictures, classes]`.
        targets: The true classes, int64 `[pictures]`.
    """
    confidence = probabilities.max(axis=1).astype(np.float64)
    right = (probabilities.argmax(axis=1) == targets).astype(np.float64)
    bins = np.minimum((confidence * RELIABILITY_BINS).astype(np.int64), RELIABILITY_BINS - 1)
    counts = np.bincount(bins, minlength=RELIABILITY_BINS)
    full = np.maximum(counts, 1)
    return Reliability(
        counts,
        np.bincount(bins, weights=right, minlength=RELIABILITY_BINS) / full,
        np.bincount(bins, weights=confidence, minlength=RELIABILITY_BINS) / full,
    )


def evaluate(
    run: Run, batches: Iterable[Batch], data: str, advance: Advance = lambda _: None
) -> Evaluation:
    """Run all evaluation data.

    Args:
        run: The network.
        batches: Prepared pictures and their classes.
        data: Which pictures they are, in words.
        advance: Told how many more pictures are done.
    """
    probabilities, logits, targets = [], [], []
    for batch in batches:
        answer = run(batch.images.numpy())
        probabilities.append(answer.probabilities)
        logits.append(answer.logits)
        targets.append(batch.targets.numpy())
        advance(len(batch.targets))
    return Evaluation(
        np.concatenate(probabilities), np.concatenate(logits), np.concatenate(targets), data
    )
