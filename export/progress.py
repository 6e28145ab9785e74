"""What is being done, for people who wait."""

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn

Advance = Callable[[int], None]
"""Told how many more are done."""


class ExportProgress(Protocol):
    """Is told of each stage of an export."""

    def stage(self, description: str, total: int | None = None) -> AbstractContextManager[Advance]:
        """Show a stage while its block runs; `total` is how much it has to do, where known."""
        ...


class SilentProgress:
    """Shows nothing."""

    @contextlib.contextmanager
    def stage(self, description: str, total: int | None = None) -> Iterator[Advance]:  # noqa: ARG002
        """Do nothing."""
        yield lambda _: None


class TerminalProgress:
    """A bar for each stage; without a terminal, one line for each.

    Args:
        console: Where it is shown.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bars = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bars.stop()

    @contextlib.contextmanager
    def stage(self, description: str, total: int | None = None) -> Iterator[Advance]:
        """Show a bar; one that only moves, where no total is known."""
        if not self._console.is_terminal:
            self._console.print(description, highlight=False, soft_wrap=True)
        task = self._bars.add_task(description, total=total)
        try:
            yield lambda count: self._bars.advance(task, count)
        finally:
            self._bars.remove_task(task)
