import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from convd.export.errors import CalibrationError
from convd.export.report.calibration import calibrate, fit_temperature
from convd.export.report.evaluation import Evaluation, reliability


def truth_of(targets: NDArray[np.int64], classes: int = 4) -> NDArray[np.bool_]:
    return np.eye(classes, dtype=bool)[targets]


def answers(
    logits: NDArray[np.float32], targets: NDArray[np.int64], classes: int = 4
) -> Evaluation:
    return Evaluation(logits, logits, truth_of(targets, classes), "multiclass", "pictures")


def believable(
    examples: int = 4000, classes: int = 4, seed: int = 0
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Logits whose softmax is the very distribution that the classes are drawn from."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(size=(examples, classes), scale=1.5).astype(np.float32)
    noise = generator.gumbel(size=logits.shape)
    return logits, (logits + noise).argmax(axis=1)


@pytest.mark.parametrize("sharpness", [0.25, 1.0, 5.0])
def test_the_temperature_undoes_a_wrong_sharpness(sharpness: float) -> None:
    logits, targets = believable()
    found = fit_temperature(logits * np.float32(sharpness), truth_of(targets), "multiclass")
    assert found == pytest.approx(sharpness, rel=0.1)


def test_scores_are_measured_on_pictures_that_were_not_fitted_on() -> None:
    logits, targets = believable()
    calibration = calibrate(answers(logits * 4, targets))
    report = calibration.report
    assert report.examples == len(targets) // 2 == len(calibration.truth)
    assert report.after.negative_log_likelihood < report.before.negative_log_likelihood
    assert report.after.expected_calibration_error < 0.05
    assert report.before.expected_calibration_error > 0.1


@settings(max_examples=30)
@given(seed=st.integers(0, 10_000), sharpness=st.floats(0.3, 5))
def test_top1_stays_as_it_was_and_likelihood_never_falls(seed: int, sharpness: float) -> None:
    logits, targets = believable(examples=200, seed=seed)
    logits = logits * np.float32(sharpness)
    calibration = calibrate(answers(logits, targets))
    assert (calibration.before.argmax(axis=1) == calibration.after.argmax(axis=1)).all()
    temperature = fit_temperature(logits, truth_of(targets), "multiclass")
    assert likelihood(logits, targets, temperature) <= likelihood(logits, targets, 1.0) + 1e-6


def likelihood(
    logits: NDArray[np.float32], targets: NDArray[np.int64], temperature: float
) -> float:
    scaled = logits.astype(np.float64) / temperature
    scaled -= scaled.max(axis=1, keepdims=True)
    log_probabilities = scaled - np.log(np.exp(scaled).sum(axis=1, keepdims=True))
    return float(-log_probabilities[np.arange(len(targets)), targets].mean())


def test_the_calibration_error_is_that_of_its_definition() -> None:
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.4, 0.6]], np.float32)
    curve = reliability(probabilities, truth_of(np.array([0, 1, 0, 0]), 2), "multiclass")
    # Two pictures at 0.9 of which one is right, two at 0.6 of which one is right.
    assert curve.expected_error == pytest.approx(0.5 * 0.4 + 0.5 * 0.1)
    assert curve.counts.sum() == 4


def test_what_no_temperature_improves_is_refused() -> None:
    targets = np.arange(100) % 3
    perfect = np.eye(3, dtype=np.float32)[targets]
    with pytest.raises(CalibrationError, match="leave --calibrate out"):
        calibrate(answers(perfect, targets, 3))
    with pytest.raises(CalibrationError, match="19 pictures are too few"):
        calibrate(answers(perfect[:19], targets[:19], 3))
