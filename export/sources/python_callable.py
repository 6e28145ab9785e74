"""Networks that a function of the user's builds: `file.py:build` or `package.module:build`."""

import ast
import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from torch import nn

from convd.export.errors import SourceError
from convd.export.sources.guest import calling, host, importing, is_library


def build_network(spec: str) -> nn.Module:
    """Import the user's code and build the network.

    The code is run: this is for code of one's own, not for files from anywhere.

    Args:
        spec: `file.py:name` or `package.module:name`; the name is a function without arguments
            that returns an `nn.Module`, or the `nn.Module` itself.

    Raises:
        SourceError: The code cannot be imported, has no such name, fails, gives no `nn.Module`, or
            is a script that does its work when it is imported.
    """
    where, _, name = spec.rpartition(":")
    if where.endswith(".py"):
        module_name, folders = _locate(Path(where))
    else:
        module_name, folders = where, []
    with host([*folders, Path.cwd()]):
        module = _import(where, module_name)
        made = getattr(module, name, None)
        if made is None:
            known = sorted(key for key, value in vars(module).items() if callable(value))
            raise SourceError(
                f"{where} has no {name!r}: it has {', '.join(known) or 'nothing to call'}"
            )
        if not isinstance(made, nn.Module) and callable(made):
            made = _call(spec, made)
    if not isinstance(made, nn.Module):
        raise SourceError(
            f"{spec} gives a {type(made).__name__}: it must return a torch.nn.Module with its "
            "trained weights, in eval mode"
        )
    return made


def builders(path: Path) -> list[str]:
    """Names in a Python file that may build a network; the file is read and not run."""
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return []
    found = [node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    return [name for name in found if not name.startswith("_")]


def _call(spec: str, build: Callable[[], object]) -> object:
    try:
        with calling(spec):
            return build()
    except SourceError:
        raise
    # The function is the user's code: it may raise anything.
    except Exception as error:
        hint = ""
        if isinstance(error, FileNotFoundError):
            hint = f"; relative paths start from the folder where convd runs, {Path.cwd()}"
        elif isinstance(error, TypeError) and "argument" in str(error):
            hint = "; give a function that needs no arguments"
        elif "CUDA" in str(error) or "NVIDIA" in str(error):
            hint = "; build it on the CPU: no .cuda(), and torch.load(..., map_location='cpu')"
        raise SourceError(f"{spec} failed: {type(error).__name__}: {error}{hint}") from error


def _locate(path: Path) -> tuple[str, list[Path]]:
    """The name under which a file is imported, and the folders of its project.

    A file in a package is imported as part of it, so that its relative imports work.
    """
    if not path.is_file():
        raise SourceError(f"{path} does not exist")
    path = path.resolve()
    depth = _package_depth(path)
    if depth == 0:
        return path.stem, [path.parent]
    root = path.parents[depth]
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts), [root, path.parent]


def _package_depth(path: Path) -> int:
    """How many folders above a file belong to its package."""
    depth = 0
    while (path.parents[depth] / "__init__.py").is_file():
        depth += 1
    try:
        tree = ast.parse(path.read_bytes())
    # Importing it says what is wrong.
    except (SyntaxError, ValueError):
        return depth
    levels = [node.level for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    return max(depth, *levels) if levels else depth


def _import(where: str, name: str) -> ModuleType:
    loaded = sys.modules.get(name)
    try:
        with importing(Path(where).name):
            if where.endswith(".py") and "." not in name:
                return _import_file(Path(where), name)
            return importlib.import_module(name)
    except SourceError:
        raise
    # The code is the user's: it may raise anything.
    except Exception as error:
        hint = _explain(error)
        raise SourceError(
            f"{where} cannot be imported: {type(error).__name__}: {error}{hint}"
        ) from error
    finally:
        if loaded is not None and is_library(loaded):
            sys.modules[name] = loaded


def _import_file(path: Path, name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise SourceError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    # A class finds its own module here, as dataclasses and pickles need.
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _explain(error: Exception) -> str:
    """Name the library that was taken where the user's own module may have been meant."""
    if not isinstance(error, ImportError) or error.name is None:
        return ""
    top = error.name.partition(".")[0]
    loaded = sys.modules.get(top)
    if loaded is None or not is_library(loaded):
        return ""
    return f"; {top} is an installed library, loaded already: give a file of that name another one"
