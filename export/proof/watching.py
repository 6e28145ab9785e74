"""Watches a network run, for the line that does what convd cannot serve."""

import contextlib
from collections.abc import Callable
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from convd.export.user_lines import running_line

_RESHAPING = {"view", "reshape", "squeeze", "flatten", "unflatten", "squeeze_", "view_as"}


def reshaping_line(run: Callable[[], object], batch: int) -> str | None:
    """The first line that takes a tensor with the batch in front and gives one without.

    Args:
        run: Runs the network; it may fail.
        batch: The number of pictures that it runs on.
    """
    watch = _Reshaping(batch)
    with watch:
        _attempt(run)
    return watch.line


def autocast_line(run: Callable[[], object]) -> str | None:
    """The line that computes in a smaller precision on the CPU by `torch.autocast`."""
    lines: list[str] = []
    enter: Callable[[Any], Any] = torch.autocast.__enter__

    def watched(context: Any) -> Any:  # noqa: ANN401
        if context.device == "cpu" and context._enabled:
            lines.append(running_line() or "torch.autocast")
        return enter(context)

    with mock.patch.object(torch.autocast, "__enter__", watched):
        _attempt(run)
    return lines[0] if lines else None


class _Reshaping(TorchFunctionMode):
    def __init__(self, batch: int) -> None:
        super().__init__()
        self.line: str | None = None
        self._batch = batch

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401
        result = func(*args, **(kwargs or {}))
        if self.line is None and getattr(func, "__name__", "") in _RESHAPING:
            given = args[0] if args else None
            shapes = [each.shape[:1] for each in (given, result) if isinstance(each, Tensor)]
            if len(shapes) == 2 and tuple(shapes[0]) == (self._batch,) != tuple(shapes[1]):
                self.line = running_line()
        return result


def _attempt(run: Callable[[], object]) -> None:
    # What it fails with is known already, or is found when it is run again.
    with contextlib.suppress(Exception):
        run()
