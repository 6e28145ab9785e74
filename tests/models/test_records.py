import math

import pytest

from convd.models.losses import chance_loss
from convd.models.records import EpochRecord, rises_above_chance


def _records(*losses: float) -> list[EpochRecord]:
    return [
        EpochRecord(
            epoch=number,
            train_loss=loss,
            train_accuracy=0.25,
            watched="held out",
            watched_accuracy=0.25,
            learning_rate=0.1,
            images_per_second=1.0,
            seconds=1.0,
        )
        for number, loss in enumerate(losses, start=1)
    ]


@pytest.mark.parametrize(
    ("losses", "warned"),
    [
        ([1.50], False),  # random weights may be too sure of themselves
        ([1.50, 3.13], True),
        ([1.50, 1.40, 1.20], False),
        ([1.50, 1.48], False),  # falls, if slowly
        ([1.38, 1.39], False),  # guesses, and has not diverged
        ([0.20, 0.60], False),  # one bad epoch of a network that has learned
    ],
)
def test_a_loss_that_rises_above_guessing_is_noticed(losses: list[float], *, warned: bool) -> None:
    assert rises_above_chance(_records(*losses), math.log(4)) is warned


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_guessing_has_the_logarithm_of_the_classes(label_smoothing: float) -> None:
    guessing = chance_loss(7, loss="cross-entropy", label_smoothing=label_smoothing)
    assert guessing == pytest.approx(math.log(7))


def test_guessing_has_half_the_squared_distance_to_the_target() -> None:
    # Probabilities 0.25, target 1: (0.75^2 + 3 * 0.25^2) / 2.
    assert chance_loss(4, loss="squared-error", label_smoothing=0.0) == pytest.approx(0.375)
