"""Training progress in the terminal."""

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from convd.models.records import EpochRecord


class TrainingProgress:
    """A progress bar with loss, accuracy, rate and time left; without a terminal, a line per epoch.

    Args:
        epochs: Epochs of the run.
        steps: Steps of the run.
        console: Where to print.
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
        """Update the bar: `step` counts the whole run, the other figures cover this epoch."""
        self._progress.update(
            self._task,
            completed=step,
            description=f"epoch {epoch}/{self._epochs}",
            loss=loss,
            accuracy=accuracy,
            rate=images_per_second,
        )

    def epoch(self, summary: EpochRecord) -> None:
        """Print a finished epoch."""
        if not self._console.is_terminal:
            self._console.print(
                f"epoch {summary.epoch}/{self._epochs}: loss {summary.train_loss:.4f}, accuracy "
                f"{summary.train_accuracy:.2%} training, {summary.watched_accuracy:.2%} "
                f"{summary.watched}, "
                f"{summary.images_per_second:,.0f} images/s",
                highlight=False,
                soft_wrap=True,
            )
