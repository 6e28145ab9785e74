"""What a training run writes down after every epoch."""

from pathlib import Path

from convd.artifact.frozen import FrozenModel

METRICS_FILE = "metrics.jsonl"


class EpochRecord(FrozenModel):
    """One epoch in figures.

    Attributes:
        epoch: Its number, from 1.
        train_loss: Mean loss over the training pictures, while they were trained on.
        train_accuracy: Share of them that were classified right, before each step.
        watched: Which pictures accuracy was measured on after the epoch.
        watched_accuracy: Share of those that were classified right.
        learning_rate: At its last step.
        images_per_second: Training pictures per second, evaluation apart.
        seconds: Its whole duration.
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
        finished_epochs: How many of its records still hold; what came after is done again.
    """

    def __init__(self, path: Path, finished_epochs: int) -> None:
        self._path = path
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        self.records = [EpochRecord.model_validate_json(line) for line in lines[:finished_epochs]]
        path.write_text("".join(self._line(each) for each in self.records), encoding="utf-8")

    def append(self, record: EpochRecord) -> None:
        """Add the record of an epoch that is over."""
        self.records.append(record)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(self._line(record))

    @staticmethod
    def _line(record: EpochRecord) -> str:
        return record.model_dump_json() + "\n"
