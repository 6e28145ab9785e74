"""Runs the cells of a notebook, as Jupyter does, without Jupyter.

`python -m tests.docs.notebooks` runs every notebook in docs/ and writes what its cells print.
"""

import ast
import contextlib
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.support import ROOT

NOTEBOOKS = sorted((ROOT / "docs").glob("*.ipynb"))


def read(path: Path) -> Any:
    """The content of a notebook."""
    return json.loads(path.read_text(encoding="utf-8"))


def run(path: Path, ports: Mapping[int, int] | None = None) -> list[str]:
    """Run all code cells in one namespace, in the current folder.

    Args:
        path: The notebook.
        ports: Other ports, by those in the notebook.

    Returns:
        What each cell prints or shows.
    """
    names: dict[str, object] = {"__name__": "__main__"}
    return [
        _run_cell(_moved("".join(cell["source"]), ports or {}), f"{path.name}[{number}]", names)
        for number, cell in enumerate(read(path)["cells"])
        if cell["cell_type"] == "code"
    ]


def write(path: Path) -> None:
    """Run a notebook and keep what its cells print."""
    notebook = read(path)
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    for number, (cell, text) in enumerate(zip(code, run(path), strict=True), start=1):
        cell["execution_count"] = number
        stream = {"output_type": "stream", "name": "stdout", "text": text.splitlines(True)}
        cell["outputs"] = [stream] if text else []
    path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _moved(source: str, ports: Mapping[int, int]) -> str:
    for port, other in ports.items():
        source = source.replace(str(port), str(other))
    return source


def _run_cell(source: str, name: str, names: dict[str, object]) -> str:
    tree = ast.parse(source)
    last = None
    if tree.body and isinstance(tree.body[-1], ast.Expr):
        last = tree.body[-1].value
        tree.body.pop()
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(tree, name, "exec"), names)  # noqa: S102
        if last is not None:
            value = eval(compile(ast.Expression(last), name, "eval"), names)  # noqa: S307
            if value is not None:
                print(repr(value))  # noqa: T201
    return printed.getvalue()


if __name__ == "__main__":
    import os
    import tempfile

    for notebook in NOTEBOOKS:
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            write(notebook)
