"""Finds the line of a network's code that freezes the batch size."""

import linecache
import logging
import traceback
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch._logging._internal import set_logs

_SYMBOLIC_SHAPES = logging.getLogger("torch.fx.experimental.symbolic_shapes")
_INSIDE = tuple(str(Path(str(module.__file__)).parent) for module in (torch, logging))


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
        for frame in reversed(traceback.extract_stack()):
            if frame.filename != __file__ and not frame.filename.startswith(_INSIDE):
                code = linecache.getline(frame.filename, frame.lineno or 0).strip()
                self.line = f"{Path(frame.filename).name}:{frame.lineno}: {code}"
                return
