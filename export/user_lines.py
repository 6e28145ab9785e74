"""Finds the line of the user's own code in a stack: neither convd's, nor a library's."""

import linecache
import sysconfig
import traceback
from collections.abc import Iterable
from pathlib import Path

import convd

_INSTALLED = {"site-packages", "dist-packages"}
_STANDARD_LIBRARY = sysconfig.get_path("stdlib")
_ROOMS = tuple(str(room.resolve()) for room in Path(convd.__path__[0]).iterdir() if room.is_dir())


def line_of_error(error: BaseException) -> str | None:
    """The innermost line of the user's code that an error passed through.

    Returns:
        File, line and code, such as `net.py:12: x = x.view(1, -1)`; None where there is none.
    """
    return _innermost(traceback.extract_tb(error.__traceback__))


def running_line() -> str | None:
    """The innermost line of the user's code that is being run."""
    return _innermost(traceback.extract_stack())


def _innermost(frames: Iterable[traceback.FrameSummary]) -> str | None:
    for frame in reversed(list(frames)):
        file = Path(frame.filename).resolve()
        others = (*_ROOMS, _STANDARD_LIBRARY)
        users = _INSTALLED.isdisjoint(file.parts) and not str(file).startswith(others)
        if users and file.is_file():
            code = linecache.getline(frame.filename, frame.lineno or 0).strip().rstrip(":")
            return f"{file.name}:{frame.lineno}: {code}"
    return None
