"""Training progress in the terminal."""

import time
from datetime import timedelta
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from convd.models.records import EpochRecord


class TrainingProgress:
    """A bar for the epoch and a line for each finished one; without a terminal, the lines alone.

    Args:
        epochs: Epochs of the run.
        steps_per_epoch: Steps of each epoch.
        console: Where to print.
    """

    def __init__(self, epochs: int, steps_per_epoch: int, console: Console) -> None:
        self._epochs = epochs
        self._steps_per_epoch = steps_per_epoch
        self._console = console
        self._first: tuple[int, float] | None = None
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}"),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        self._task = self._progress.add_task("epoch 1", total=steps_per_epoch, figures="")

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
        left = ""
        now = time.monotonic()
        if self._first is None:
            self._first = step, now
        elif step > self._first[0]:
            seconds_per_step = (now - self._first[1]) / (step - self._first[0])
            steps = self._epochs * self._steps_per_epoch - step
            left = f", {timedelta(seconds=round(steps * seconds_per_step))} left"
        self._progress.update(
            self._task,
            completed=step - (epoch - 1) * self._steps_per_epoch,
            description=f"epoch {epoch}/{self._epochs}",
            figures=f"loss {loss:.4f}, accuracy {accuracy:.2%}, {images_per_second:,.0f} "
            f"images/s{left}",
        )

    def epoch(self, summary: EpochRecord) -> None:
        """Print a finished epoch."""
        self._print(
            f"epoch {summary.epoch}/{self._epochs}: loss {summary.train_loss:.4f}, accuracy "
            f"{summary.train_accuracy:.2%} training, {summary.watched_accuracy:.2%} "
            f"{summary.watched}, {summary.images_per_second:,.0f} images/s"
        )

    def warn(self, text: str) -> None:
        """Print a warning."""
        self._print(f"warning: {text}")

    def _print(self, text: str) -> None:
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)
