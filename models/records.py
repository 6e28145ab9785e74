"""The record that a training run writes after each epoch."""

from pathlib import Path

from convd.artifact.frozen import FrozenModel

METRICS_FILE = "metrics.jsonl"


class EpochRecord(FrozenModel):
    """The figures of one epoch.

    Attributes:
        epoch: Its number, from 1.
        train_loss: Mean loss over the training pictures, during training.
        train_accuracy: Share of them classified correctly, before each step.
        watched: The pictures on which accuracy was measured after the epoch.
        watched_accuracy: Share of those classified correctly.
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
        path.write_text("".join(self._line(each) for each in self.records), encoding="utf-8")

    def append(self, record: EpochRecord) -> None:
        """Add the record of a finished epoch."""
        self.records.append(record)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(self._line(record))

    @staticmethod
    def _line(record: EpochRecord) -> str:
        return record.model_dump_json() + "\n"
