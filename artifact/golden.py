"""Golden cases: a few encoded images with the probabilities that they must produce."""

from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray

from convd.artifact.answers import predictions
from convd.artifact.frozen import FrozenModel
from convd.artifact.manifest import Task

GOLDEN_DIRECTORY = PurePosixPath("golden")
GOLDEN_CASES = GOLDEN_DIRECTORY / "cases.json"


class GoldenCase(FrozenModel):
    """One image and its expected answer.

    Attributes:
        image: Path of the encoded image, relative to the artifact.
        probabilities: Expected probability of every class, in label order.
    """

    image: str
    probabilities: tuple[float, ...]


class GoldenCases(FrozenModel):
    """All golden cases of an artifact: the content of `golden/cases.json`."""

    cases: tuple[GoldenCase, ...]


def count_answers(probabilities: NDArray[np.floating], task: Task) -> int:
    """How many different predictions there are.

    Args:
        probabilities: `[cases, labels]`.
        task: Whether the labels exclude each other.
    """
    return len(np.unique(predictions(probabilities, task), axis=0))


def golden_difference(cases: GoldenCases, probabilities: NDArray[np.float32]) -> float:
    """Compare answers with those of the golden cases.

    Args:
        cases: The golden cases.
        probabilities: float32 `[cases, classes]`, the answers in the order of the cases.

    Returns:
        The largest absolute difference of a probability; infinity if an answer is not finite.
    """
    expected = np.array([case.probabilities for case in cases.cases], np.float64)
    if not np.isfinite(probabilities).all():
        return float("inf")
    return float(np.abs(expected - probabilities).max())
