"""The record that a training run writes after each epoch."""

from collections.abc import Sequence
from pathlib import Path

from convd.artifact.frozen import FrozenModel
from convd.models.output import writing

METRICS_FILE = "metrics.jsonl"

_CLEARLY = 1.05


class EpochRecord(FrozenModel):
    """The figures of one epoch.

    Attributes:
        epoch: Its number, from 1.
        train_loss: Mean loss over the training pictures, during training.
        train_accuracy: Share of them classified correctly, before each step.
        watched: The pictures on which accuracy was measured after the epoch.
        watched_accuracy: Share of those classified correctly.
        watched_loss: Mean loss over those; None in records of earlier versions.
        learning_rate: At its last step.
        images_per_second: Training pictures per second, without evaluation.
        seconds: Its duration, with evaluation.
    """

    epoch: int
    train_loss: float
    train_accuracy: float
    watched: str
    watched_accuracy: float
    learning_rate: float
    images_per_second: float
    seconds: float
    watched_loss: float | None = None


def rises_above_chance(records: Sequence[EpochRecord], chance_loss: float) -> bool:
    """Whether the last epoch was worse than the one before it and worse than guessing.

    The first epoch may be: random weights can be surer of themselves than they ought to be.

    Args:
        records: The epochs so far.
        chance_loss: Loss of a network that finds every class equally likely.
    """
    if len(records) < 2:
        return False
    before, last = records[-2].train_loss, records[-1].train_loss
    return last > before and last > _CLEARLY * chance_loss


class EpochLog:
    """The records of a run, one JSON object per line of a file.

    Args:
        path: The file.
        finished_epochs: How many of its records to keep; later epochs are run again.
    """

    def __init__(self, path: Path, finished_epochs: int) -> None:
        self._path = path
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        self.records = [EpochRecord.model_validate_json(line) for line in lines[:finished_epochs]]
        self._write()

    def append(self, record: EpochRecord) -> None:
        """Add the record of a finished epoch.

        Raises:
            OutputError: The file cannot be written.
        """
        self.records.append(record)
        self._write()

    def _write(self) -> None:
        lines = [each.model_dump_json() + "\n" for each in self.records]
        with writing(self._path) as partial:
            partial.write_text("".join(lines), encoding="utf-8")
