"""How the network that is served answers pictures whose classes are known."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from artifact.evidence import Accuracy, Baseline
from artifact.preprocessing import ImageArray
from runtime.session import Session

CONFIDENCE_BINS = 20

_BATCH_SIZE = 32


@dataclass(frozen=True)
class Evaluation:
    """The answers to the evaluation data.

    Attributes:
        probabilities: float32 `[pictures, classes]`.
        targets: int64 `[pictures]`, the true classes.
        data: Which pictures they are, in words.
    """

    probabilities: NDArray[np.float32]
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


def evaluate(
    session: Session, images: list[ImageArray], targets: list[int], data: str
) -> Evaluation:
    """Run all evaluation data.

    Args:
        session: The network.
        images: Prepared pictures, uint8 `[height, width, channels]` each.
        targets: Their classes.
        data: Which pictures they are, in words.
    """
    rows = [
        session.run(np.stack(images[start : start + _BATCH_SIZE]))[0]
        for start in range(0, len(images), _BATCH_SIZE)
    ]
    return Evaluation(np.concatenate(rows), np.array(targets, np.int64), data)
