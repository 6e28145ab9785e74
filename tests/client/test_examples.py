"""The clients in docs/clients that need only what is installed here; others are in interop."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.digits import Digits
from tests.support import ROOT
from tests.support import Client as Server

CLIENTS = ROOT / "docs" / "clients"


def run(*words: object) -> str:
    completed = subprocess.run(
        [str(word) for word in words], cwd=ROOT, check=False, capture_output=True, text=True
    )
    assert completed.returncode == 0, completed.stderr
    return completed.stdout


@pytest.fixture
def pictures(tmp_path: Path, digits: Digits) -> list[Path]:
    files = [tmp_path / f"{digit}.png" for digit in (3, 5)]
    for file in files:
        file.write_bytes(digits.encoded(int(file.stem)))
    return files


def test_python(client: Server, pictures: list[Path]) -> None:
    address = f"127.0.0.1:{client.grpc_port}"
    lines = run(
        sys.executable, CLIENTS / "classify.py", "digits", *pictures, "--server", address
    ).splitlines()
    assert lines[0].startswith(f"{pictures[0]}: 3 (")
    assert lines[1:] == [f"{pictures[0]}: 3", f"{pictures[1]}: 5", "3, 5"]


def test_reflection(client: Server, pictures: list[Path]) -> None:
    address = f"127.0.0.1:{client.grpc_port}"
    text = run(sys.executable, CLIENTS / "reflect.py", pictures[0], "digits", address)
    services, brace, answer = text.partition("{")
    assert "convd.v1.ClassificationService" in services.splitlines()
    [result] = json.loads(brace + answer)["results"]
    assert result["classification"]["classes"][0]["label"] == "3"


@pytest.mark.skipif(shutil.which("java") is None, reason="java is not installed")
def test_java(client: Server, pictures: list[Path]) -> None:
    address = f"127.0.0.1:{client.http_port}"
    answer = json.loads(run("java", CLIENTS / "Classify.java", pictures[1], "digits", address))
    classes = answer["results"][0]["classification"]["classes"]
    assert [len(classes), classes[0]["label"]] == [3, "5"]
