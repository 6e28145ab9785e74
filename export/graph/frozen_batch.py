"""Finds the line of a network's code that freezes the batch size."""

import logging
from typing import Any

import torch
from torch import nn
from torch._logging._internal import set_logs

from convd.export.user_lines import running_line

_SYMBOLIC_SHAPES = logging.getLogger("torch.fx.experimental.symbolic_shapes")


def find_freezing_line(
    network: nn.Module, example: torch.Tensor, dynamic_shapes: tuple[dict[int, Any], ...]
) -> str | None:
    """Trace a network once more and watch for what turns its batch size into a number.

    Args:
        network: A network whose export failed.
        example: Its input.
        dynamic_shapes: What should have stayed dynamic.

    Returns:
        File, line and code, such as `net.py:12: x = x.view(2, -1)`; None where PyTorch does not
        tell.
    """
    watcher = _Watcher()
    disabled = logging.root.manager.disable
    logging.disable(logging.NOTSET)
    set_logs(dynamic=logging.INFO)
    propagate, _SYMBOLIC_SHAPES.propagate = _SYMBOLIC_SHAPES.propagate, False
    handlers, _SYMBOLIC_SHAPES.handlers = _SYMBOLIC_SHAPES.handlers, [watcher]
    try:
        torch.export.export(network, (example,), dynamic_shapes=dynamic_shapes, strict=False)
    # It failed before; what it says of the batch size is in the watcher.
    except Exception:  # noqa: S110
        pass
    finally:
        _SYMBOLIC_SHAPES.handlers, _SYMBOLIC_SHAPES.propagate = handlers, propagate
        set_logs()
        logging.disable(disabled)
    return watcher.line


class _Watcher(logging.Handler):
    """Notes the innermost line outside PyTorch at the moment when a size becomes a number."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.line: str | None = None

    def emit(self, record: logging.LogRecord) -> None:
        if self.line is not None or not record.getMessage().startswith("eval Eq("):
            return
        self.line = running_line()
