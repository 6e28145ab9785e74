"""Training as it is seen in a terminal."""

from types import TracebackType
from typing import NamedTuple, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)


class EpochSummary(NamedTuple):
    """One epoch in figures.

    Attributes:
        epoch: Its number, from 1.
        train_loss: Mean loss over the training pictures, while they were trained on.
        train_accuracy: Share of them that were classified right, before each step.
        watched_accuracy: Share of the watched pictures that are classified right after the epoch.
        learning_rate: At its last step.
        images_per_second: Training pictures per second, evaluation apart.
        seconds: Its whole duration.
    """

    epoch: int
    train_loss: float
    train_accuracy: float
    watched_accuracy: float
    learning_rate: float
    images_per_second: float
    seconds: float


class TrainingProgress:
    """A bar with loss, accuracy, rate and time left; one line per epoch where there is no terminal.

    Args:
        epochs: Epochs of the run.
        steps: Steps of the run.
        console: Where it is shown.
    """

    def __init__(self, epochs: int, steps: int, console: Console) -> None:
        self._epochs = epochs
        self._console = console
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]:.4f}"),
            TextColumn("accuracy {task.fields[accuracy]:.2%}"),
            TextColumn("{task.fields[rate]:,.0f} images/s"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._progress.add_task(
            f"epoch 1/{epochs}", total=steps, loss=0.0, accuracy=0.0, rate=0.0
        )

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def step(
        self, *, epoch: int, step: int, loss: float, accuracy: float, images_per_second: float
    ) -> None:
        """Show how far it is: `step` of the whole run, the rest over the epoch so far."""
        self._progress.update(
            self._task,
            completed=step,
            description=f"epoch {epoch}/{self._epochs}",
            loss=loss,
            accuracy=accuracy,
            rate=images_per_second,
        )

    def epoch(self, summary: EpochSummary) -> None:
        """Show an epoch that is over."""
        if not self._console.is_terminal:
            self._console.print(
                f"epoch {summary.epoch}/{self._epochs}: loss {summary.train_loss:.4f}, accuracy "
                f"{summary.train_accuracy:.2%} training, {summary.watched_accuracy:.2%} held out, "
                f"{summary.images_per_second:,.0f} images/s",
                highlight=False,
                soft_wrap=True,
            )
