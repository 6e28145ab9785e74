"""The user's code is a guest: it is imported from its own folders first, and changes nothing here.

Python looks a module up among those that are loaded, then along `sys.path`. Both would mix a
project's `models/` or `utils.py` with another package of that name, so a guest gets a finder of its
own that comes before both.
"""

import contextlib
import importlib.abc
import io
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import SupportsIndex

import torch
from torch.optim.optimizer import Optimizer, register_optimizer_step_pre_hook

import convd
from convd.export.errors import SourceError

_SLOW_IMPORT_SECONDS = 30.0
_INSTALLED = {"site-packages", "dist-packages"}


class GuestFinder(importlib.abc.MetaPathFinder):
    """Finds top-level modules in the user's folders, before anything that is installed.

    A folder without `__init__.py` counts as a package where Python code is in it, so that a
    `models/` of the user's is found before an installed one.

    Args:
        folders: Where to look, in order.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        self._folders = [str(folder) for folder in dict.fromkeys(folders)]

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: ModuleType | None = None,  # noqa: ARG002
        /,
    ) -> ModuleSpec | None:
        """Find a top-level module; submodules are found through their package."""
        if path is not None or fullname in sys.stdlib_module_names or fullname == "convd":
            return None
        spec = PathFinder.find_spec(fullname, self._folders)
        if spec is None or spec.loader is not None:
            return spec
        # A folder of data or of .onnx files is no package.
        places = spec.submodule_search_locations or []
        holds_code = any(next(Path(place).rglob("*.py"), None) for place in places)
        return spec if holds_code else None


@contextlib.contextmanager
def host(folders: Sequence[Path]) -> Iterator[None]:
    """Let the user's code import its own modules, and undo what it does to the process.

    Its modules stay loaded, and what it imports later, in `forward`, is still found.

    Args:
        folders: Where its modules are, in order.
    """
    importlib.invalidate_caches()
    finder = GuestFinder(folders)
    hidden = _hide_modules_of_the_same_name(finder)
    state = _ProcessState()
    sys.path[:] = [entry for entry in sys.path if not _is_checkout_of_convd(entry)]
    sys.meta_path.insert(0, finder)
    try:
        # What the code prints is not part of convd's own output.
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        sys.meta_path.remove(finder)
        sys.meta_path.append(finder)
        state.restore()
        for name, module in hidden.items():
            sys.modules.setdefault(name, module)


@contextlib.contextmanager
def importing(what: str) -> Iterator[None]:
    """Explain what only a script does when it is imported.

    Args:
        what: The file or module, for the texts.

    Raises:
        SourceError: The code reads the command line or its input, trains, or exits.
    """
    advice = (
        "importing it must only define the network; put what the script does under if __name__ == "
        '"__main__":'
    )
    hook = register_optimizer_step_pre_hook(_refuse_to_train)
    slow = threading.Timer(_SLOW_IMPORT_SECONDS, _say_that_it_is_slow, [what])
    slow.daemon = True
    slow.start()
    try:
        with _without_arguments_and_input(f"{what} {{}} when it is imported: {advice}"):
            yield
    finally:
        slow.cancel()
        hook.remove()


@contextlib.contextmanager
def calling(what: str) -> Iterator[None]:
    """Explain what a function that builds a network cannot do.

    Args:
        what: The function, for the texts.

    Raises:
        SourceError: The code reads the command line or its input, or exits.
    """
    with _without_arguments_and_input(f"{what} {{}}: it must build the network without being told"):
        yield


@contextlib.contextmanager
def _without_arguments_and_input(text: str) -> Iterator[None]:
    argv, stdin = sys.argv, sys.stdin
    sys.argv, sys.stdin = _CommandLine([argv[0]]), _Input()
    try:
        yield
    except _ScriptBehaviour as behaviour:
        raise SourceError(text.format(behaviour)) from behaviour
    except SystemExit as error:
        raise SourceError(text.format(f"ends the program (status {error.code})")) from error
    finally:
        sys.argv, sys.stdin = argv, stdin


def is_library(module: ModuleType) -> bool:
    """Whether a module belongs to Python or to an installed package."""
    if module.__name__.partition(".")[0] in sys.stdlib_module_names:
        return True
    return not _INSTALLED.isdisjoint(Path(_place(module)).parts)


class _ProcessState:
    """What code can change for the whole process without meaning to."""

    def __init__(self) -> None:
        self._folder = Path.cwd()
        self._path = list(sys.path)
        self._dtype = torch.get_default_dtype()
        self._device = torch.get_default_device()
        self._gradients = torch.is_grad_enabled()

    def restore(self) -> None:
        os.chdir(self._folder)
        # What the code has added to the path serves its later imports.
        sys.path[:] = [*self._path, *(entry for entry in sys.path if entry not in self._path)]
        torch.set_default_dtype(self._dtype)
        if torch.get_default_device() != self._device:
            torch.set_default_device(self._device)
        torch.set_grad_enabled(self._gradients)


class _ScriptBehaviour(BaseException):
    """Raised inside the user's code; not an Exception, so that no handler there swallows it."""


class _CommandLine(list[str]):
    """Stands for `sys.argv`: the name of the program may be read, its arguments may not."""

    def __getitem__(self, index: SupportsIndex | slice) -> str:  # type: ignore[override]
        if isinstance(index, slice) or index.__index__() != 0:
            raise _ScriptBehaviour("reads the command line")
        return super().__getitem__(0)


class _Input(io.TextIOBase):
    """Stands for `sys.stdin`."""

    def read(self, size: int | None = -1, /) -> str:  # noqa: ARG002
        raise _ScriptBehaviour("waits for input")

    def readline(self, size: int = -1, /) -> str:  # type: ignore[override]  # noqa: ARG002
        raise _ScriptBehaviour("waits for input")


def _refuse_to_train(optimizer: Optimizer, *_: object) -> None:
    raise _ScriptBehaviour(f"trains ({type(optimizer).__name__}.step)")


def _say_that_it_is_slow(what: str) -> None:
    print(  # noqa: T201
        f"{what} has been running for {_SLOW_IMPORT_SECONDS:.0f} seconds since it was imported; if "
        'it trains, stop with Ctrl-C and put that under if __name__ == "__main__":',
        file=sys.stderr,
    )


def _hide_modules_of_the_same_name(finder: GuestFinder) -> dict[str, ModuleType]:
    """Take modules that the guest has too, and that no library needs, out of `sys.modules`."""
    hidden = {}
    for name, module in list(sys.modules.items()):
        top = name.partition(".")[0]
        if name == top and _is_shadowed(module, finder):
            mine = [other for other in sys.modules if other == top or other.startswith(f"{top}.")]
            hidden.update({other: sys.modules.pop(other) for other in mine})
    return hidden


def _is_shadowed(module: ModuleType, finder: GuestFinder) -> bool:
    if module.__name__ == "__main__" or is_library(module) or not _place(module):
        return False
    spec = finder.find_spec(module.__name__, None)
    if spec is None:
        return False
    theirs = spec.origin or next(iter(spec.submodule_search_locations or []), "")
    return _place(module) != str(Path(theirs).resolve())


def _place(module: ModuleType) -> str:
    """The file of a module, or the folder of a package without one; empty for built-in modules."""
    file = getattr(module, "__file__", None)
    place = file or next(iter(getattr(module, "__path__", [])), "")
    return str(Path(place).resolve()) if place else ""


def _is_checkout_of_convd(entry: str) -> bool:
    """Whether convd's own rooms, `models` and the like, would be found at an entry of the path."""
    rooms = Path(next(iter(convd.__path__)), "models").resolve()
    return rooms == Path(entry, "models").resolve() and rooms.parent.name != "convd"
