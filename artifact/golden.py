"""Golden cases: a few encoded images with the probabilities that they must produce."""

from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray

from convd.artifact.answers import predictions
from convd.artifact.frozen import FrozenModel
from convd.artifact.graph_contract import OutputArrays
from convd.artifact.manifest import Task
from convd.artifact.precision import Precision

FEATURE_TOLERANCES: dict[Precision, float] = {
    "float32": 1e-3,
    "float16": 0.05,
    "bfloat16": 0.2,
    "int8": 0.3,
}
"""Largest difference of a golden feature, relative to the largest one, on any machine."""

GOLDEN_DIRECTORY = PurePosixPath("golden")
GOLDEN_CASES = GOLDEN_DIRECTORY / "cases.json"


class GoldenCase(FrozenModel):
    """One image and its expected answer.

    Attributes:
        image: Path of the encoded image, relative to the artifact.
        probabilities: Expected probability of every class, in label order.
        features: Expected features; None where the network gives none, or the case is one of many.
    """

    image: str
    probabilities: tuple[float, ...]
    features: tuple[float, ...] | None = None


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


def feature_difference(cases: GoldenCases, outputs: OutputArrays) -> float:
    """Compare features with those of the golden cases, and activation maps with the features.

    Args:
        cases: The golden cases.
        outputs: The answers in the order of the cases.

    Returns:
        The largest difference, relative to the largest golden feature; infinity if an answer is
        missing, not finite or of another shape.
    """
    known = [index for index, case in enumerate(cases.cases) if case.features is not None]
    if not known:
        return 0.0
    if outputs.features is None:
        return float("inf")
    expected = np.array([cases.cases[index].features for index in known], np.float64)
    found = [outputs.features[known]]
    if outputs.activation_maps is not None:
        found.append(outputs.activation_maps[known].mean(axis=(2, 3)))
    scale = max(float(np.abs(expected).max()), 1e-6)
    differences = [
        float(np.abs(each - expected).max()) / scale if each.shape == expected.shape else np.inf
        for each in found
    ]
    # A difference that is not a number is no small one.
    return max(value if np.isfinite(value) else float("inf") for value in differences)
