"""Tests that docs/security.md promises exist, and every class of bulletins has an answer."""

import ast
import re
from pathlib import Path

import pytest

from convd.service.access.table import METHODS
from tests.support import ROOT

PAGE = (ROOT / "docs" / "security.md").read_text()
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", PAGE)))
SERVERS = ("Triton", "TorchServe", "TensorFlow Serving", "BentoML", "Ray", "MLflow", "Pillow")


@pytest.mark.parametrize(("file", "name"), NAMED, ids=lambda part: part.rpartition("/")[2])
def test_a_test_that_the_page_names_exists(file: str, name: str) -> None:
    tree = ast.parse((ROOT / file).read_text())
    defined = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert not name or name in defined


def rows(heading: str) -> list[list[str]]:
    """The cells of the table below a heading."""
    section = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    table = section.partition("\n### ")[0]
    lines = [line for line in table.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2:]]


@pytest.mark.parametrize("heading", ["Callers", "The model repository", "The browser", "Supply"])
def test_each_defence_has_a_test(heading: str) -> None:
    assert rows(heading)
    for row in rows(heading):
        assert "::test_" in row[-1], row[0]


def test_each_class_of_bulletins_has_a_test_or_a_reason() -> None:
    answers = rows("Bulletins of others")
    assert len(answers) > 10
    for kind, answer in answers:
        assert "::test_" in answer or "cannot occur" in answer or "Not excluded" in answer, kind
    classes = "\n".join(kind for kind, _ in answers)
    assert [one for one in SERVERS if one not in classes] == []


def test_the_way_to_report_is_linked() -> None:
    assert "](docs/security.md)" in Path(ROOT / "SECURITY.md").read_text()
    assert "](../SECURITY.md)" in PAGE


def test_each_method_stands_in_the_row_of_its_scope() -> None:
    section = PAGE.partition("\n### Scopes\n")[2].partition("\n### ")[0]
    by_scope = {}
    for line in section.splitlines():
        if line.startswith("| ") and not line.startswith(("| Scope", "| ---")):
            scope, methods, _ = (cell.strip() for cell in line.strip("|").split(" | "))
            by_scope[scope.strip("`").removesuffix(":MODEL")] = methods
    for method, row in METHODS.items():
        name = method.rpartition("/")[2]
        if "SharedMemory" in name:
            name = "shared memory"
        elif name == "ServerReflectionInfo":
            name = "reflection"
        assert name in by_scope[str(row.scope or "none")], method
