"""One temperature that makes probabilities believable.

Guo, Pleiss, Sun and Weinberger, "On Calibration of Modern Neural Networks", ICML 2017.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from torch.nn import functional as F  # noqa: N812

from convd.artifact.evidence import CalibrationReport, CalibrationScores
from convd.export.errors import CalibrationError
from convd.export.evaluation import reliability

MIN_EXAMPLES = 20

_BOUNDS = (0.02, 50.0)
_NO_TEMPERATURE = (
    "no temperature is best: the pictures are classified all right or at random; give harder ones, "
    "or more, or leave --calibrate out"
)


class Calibration(NamedTuple):
    """A fitted temperature and what it did.

    Attributes:
        temperature: What logits are to be divided by.
        report: Scores before and after, on pictures that it was not fitted on.
        before: Probabilities of those pictures without it, float32 `[pictures, classes]`.
        after: With it.
        targets: Their classes, int64 `[pictures]`.
    """

    temperature: float
    report: CalibrationReport
    before: NDArray[np.float32]
    after: NDArray[np.float32]
    targets: NDArray[np.int64]


def calibrate(logits: NDArray[np.float32], targets: NDArray[np.int64], data: str) -> Calibration:
    """Fit a temperature on one half of the pictures and measure it on the other.

    Args:
        logits: float32 `[pictures, classes]` of pictures that training has not seen.
        targets: Their classes, int64 `[pictures]`.
        data: Which pictures they are, in words.

    Raises:
        CalibrationError: There are too few pictures, or all are classified right or wrong with
            such certainty that no temperature is best.
    """
    if len(targets) < MIN_EXAMPLES:
        raise CalibrationError(
            f"{len(targets)} pictures are too few to calibrate on: give at least {MIN_EXAMPLES}"
        )
    order = np.random.default_rng(0).permutation(len(targets))
    fitted, measured = np.split(order, [len(order) // 2])
    temperature = fit_temperature(logits[fitted], targets[fitted])
    held_back, true_classes = logits[measured], targets[measured]
    before, after = (_probabilities(held_back, each) for each in (1.0, temperature))
    report = CalibrationReport(
        data=f"one half of {data}, measured on the other half",
        examples=len(fitted),
        before=_scores(held_back, before, true_classes, 1.0),
        after=_scores(held_back, after, true_classes, temperature),
        top1=float((held_back.argmax(axis=1) == true_classes).mean()),
    )
    return Calibration(temperature, report, before, after, true_classes)


def fit_temperature(logits: NDArray[np.float32], targets: NDArray[np.int64]) -> float:
    """The temperature with the smallest negative log-likelihood.

    Raises:
        CalibrationError: There is none, or none between 0.02 and 50.
    """
    if (logits.argmax(axis=1) == targets).all():
        # The smaller the temperature, the better, without end.
        raise CalibrationError(_NO_TEMPERATURE)
    low, high = (math.log(bound) for bound in _BOUNDS)
    found = minimize_scalar(
        lambda log_temperature: _negative_log_likelihood(
            logits, targets, math.exp(log_temperature)
        ),
        bounds=(low, high),
        method="bounded",
        options={"xatol": 1e-4},
    )
    if not low + 0.01 < found.x < high - 0.01:
        raise CalibrationError(_NO_TEMPERATURE)
    return float(math.exp(found.x))


def _scores(
    logits: NDArray[np.float32],
    probabilities: NDArray[np.float32],
    targets: NDArray[np.int64],
    temperature: float,
) -> CalibrationScores:
    return CalibrationScores(
        negative_log_likelihood=_negative_log_likelihood(logits, targets, temperature),
        expected_calibration_error=reliability(probabilities, targets).expected_error,
    )


def _negative_log_likelihood(
    logits: NDArray[np.float32], targets: NDArray[np.int64], temperature: float
) -> float:
    scaled = torch.from_numpy(logits).double() / temperature
    return float(F.cross_entropy(scaled, torch.from_numpy(targets)))


def _probabilities(logits: NDArray[np.float32], temperature: float) -> NDArray[np.float32]:
    probabilities: NDArray[np.float32] = (
        (torch.from_numpy(logits) / temperature).softmax(dim=1).numpy()
    )
    return probabilities
