"""Networks that a function of the user's builds: `file.py:build` or `module:callable`."""

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from torch import nn

from convd.export.errors import SourceError


def build_network(spec: str) -> nn.Module:
    """Import the user's code and build the network.

    The code is run: this is for code of one's own, not for files from anywhere.

    Args:
        spec: `file.py:name` or `package.module:name`; the name is a function without arguments
            that returns an `nn.Module`, or the `nn.Module` itself.

    Raises:
        SourceError: The code cannot be imported, has no such name, fails, or gives no `nn.Module`.
    """
    where, _, name = spec.rpartition(":")
    module = _import_file(Path(where)) if where.endswith(".py") else _import_module(where)
    made = getattr(module, name, None)
    if made is None:
        known = sorted(key for key, value in vars(module).items() if callable(value))
        raise SourceError(
            f"{where} has no {name!r}: it has {', '.join(known) or 'nothing to call'}"
        )
    if not isinstance(made, nn.Module):
        try:
            made = made()
        # The function is the user's code: it may raise anything.
        except Exception as error:
            raise SourceError(f"{spec} failed: {type(error).__name__}: {error}") from error
    if not isinstance(made, nn.Module):
        raise SourceError(
            f"{spec} gives a {type(made).__name__}: it must return a torch.nn.Module with its "
            "trained weights, in eval mode"
        )
    return made


def _import_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise SourceError(f"{path} does not exist")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise SourceError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    # As Python does for a script: what lies beside the file can be imported.
    sys.path.insert(0, str(path.resolve().parent))
    # A class finds its own module here, as dataclasses and pickles need.
    sys.modules[path.stem] = module
    try:
        spec.loader.exec_module(module)
    # The file is the user's code: it may raise anything.
    except Exception as error:
        raise SourceError(f"{path} cannot be imported: {type(error).__name__}: {error}") from error
    finally:
        sys.path.remove(str(path.resolve().parent))
    return module


def _import_module(name: str) -> ModuleType:
    sys.path.insert(0, str(Path.cwd()))
    try:
        return importlib.import_module(name)
    # The module is the user's code: it may raise anything.
    except Exception as error:
        raise SourceError(f"{name} cannot be imported: {type(error).__name__}: {error}") from error
    finally:
        sys.path.remove(str(Path.cwd()))
