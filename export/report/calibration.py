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

from convd.artifact.answers import predictions
from convd.artifact.evidence import CalibrationReport, CalibrationScores
from convd.artifact.manifest import Task
from convd.export.errors import CalibrationError
from convd.export.report.evaluation import Evaluation, reliability
from convd.export.sources.labelled_pictures import Truth

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
        before: Probabilities of those pictures without it, float32 `[pictures, labels]`.
        after: With it.
        truth: Which labels are true of each, bool `[pictures, labels]`.
        task: Whether the labels exclude each other.
    """

    temperature: float
    report: CalibrationReport
    before: NDArray[np.float32]
    after: NDArray[np.float32]
    truth: Truth
    task: Task


def calibrate(answers: Evaluation) -> Calibration:
    """Fit a temperature on one half of the pictures and measure it on the other.

    Args:
        answers: Logits of pictures that training has not seen.

    Raises:
        CalibrationError: There are too few pictures, or all are classified right or wrong with
            such certainty that no temperature is best.
    """
    logits, truth, task = answers.logits, answers.truth, answers.task
    if len(truth) < MIN_EXAMPLES:
        raise CalibrationError(
            f"{len(truth)} pictures are too few to calibrate on: give at least {MIN_EXAMPLES}"
        )
    order = np.random.default_rng(0).permutation(len(truth))
    fitted, measured = np.split(order, [len(order) // 2])
    temperature = fit_temperature(logits[fitted], truth[fitted], task)
    held_back, true_labels = logits[measured], truth[measured]
    before, after = (_probabilities(held_back, each, task) for each in (1.0, temperature))
    report = CalibrationReport(
        data=f"one half of {answers.data}, measured on the other half",
        examples=len(fitted),
        before=_scores(held_back, before, true_labels, 1.0, task),
        after=_scores(held_back, after, true_labels, temperature, task),
        top1=float((predictions(before, task) == true_labels).all(axis=1).mean()),
    )
    return Calibration(temperature, report, before, after, true_labels, task)


def fit_temperature(logits: NDArray[np.float32], truth: Truth, task: Task) -> float:
    """The temperature with the smallest negative log-likelihood.

    Args:
        logits: float32 `[pictures, labels]`.
        truth: bool `[pictures, labels]`.
        task: Whether the labels exclude each other, or each has a sigmoid of its own.

    Raises:
        CalibrationError: There is none, or none between 0.02 and 50.
    """
    if (predictions(_probabilities(logits, 1.0, task), task) == truth).all():
        # The smaller the temperature, the better, without end.
        raise CalibrationError(_NO_TEMPERATURE)
    low, high = (math.log(bound) for bound in _BOUNDS)
    found = minimize_scalar(
        lambda log_temperature: _negative_log_likelihood(
            logits, truth, math.exp(log_temperature), task
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
    truth: Truth,
    temperature: float,
    task: Task,
) -> CalibrationScores:
    return CalibrationScores(
        negative_log_likelihood=_negative_log_likelihood(logits, truth, temperature, task),
        expected_calibration_error=reliability(probabilities, truth, task).expected_error,
    )


def _negative_log_likelihood(
    logits: NDArray[np.float32], truth: Truth, temperature: float, task: Task
) -> float:
    """Mean over the pictures; multilabel: over the pictures and labels."""
    scaled = torch.from_numpy(logits).double() / temperature
    if task == "multilabel":
        return float(F.binary_cross_entropy_with_logits(scaled, torch.from_numpy(truth).double()))
    return float(F.cross_entropy(scaled, torch.from_numpy(truth.argmax(axis=1))))


def _probabilities(
    logits: NDArray[np.float32], temperature: float, task: Task
) -> NDArray[np.float32]:
    scaled = torch.from_numpy(logits) / temperature
    made = scaled.sigmoid() if task == "multilabel" else scaled.softmax(dim=1)
    probabilities: NDArray[np.float32] = made.numpy()
    return probabilities
