"""The service and its client work where no training framework is installed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from testbed.server import environment, server_process
from tests.digits import Digits
from tests.support import ROOT

BLOCKED = ("torch", "onnx", "onnxscript", "sklearn", "scipy", "safetensors", "matplotlib")


@pytest.fixture
def blocking_environment(tmp_path: Path) -> dict[str, str]:
    """An environment in which the training packages cannot be imported."""
    for package in BLOCKED:
        blocker = tmp_path / "blocked" / f"{package}.py"
        blocker.parent.mkdir(exist_ok=True)
        blocker.write_text(f"raise ModuleNotFoundError('no {package} here', name={package!r})\n")
    return environment() | {"PYTHONPATH": os.pathsep.join([str(tmp_path / "blocked"), str(ROOT)])}


def test_a_server_and_its_clients_need_no_training_framework(
    repository: Path,
    digits: Digits,
    tmp_path: Path,
    blocking_environment: dict[str, str],
) -> None:
    picture = tmp_path / "digit.png"
    digits.picture(0).save(picture)
    log = tmp_path / "log"

    def convd(*arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "convd", *arguments],
            cwd=ROOT,
            env=blocking_environment,
            capture_output=True,
            text=True,
            check=False,
        )

    with server_process(repository, log, env=blocking_environment) as server:
        address = f"127.0.0.1:{server.grpc_port}"
        ask = ("classify", str(picture), "--model", "digits", "--server", address)
        answer = json.loads(convd(*ask, "--json", "--top-k", "0").stdout)
        assert answer["image"] == str(picture)
        assert (answer["model"], answer["version"]) == ("digits", 1)
        assert len(answer["classes"]) == 10
        assert abs(sum(one["probability"] for one in answer["classes"]) - 1) < 1e-5
        assert "█" in convd(*ask).stdout
        assert "available" in convd("models", "--server", address).stdout

        bad = tmp_path / "bad.png"
        bad.write_bytes(b"no image")
        both = convd("classify", str(bad), *ask[1:], "--json")
        assert both.returncode == 1
        assert "send a JPEG, PNG, WebP or BMP" in both.stderr
        assert len(both.stdout.splitlines()) == 1, "the good image is answered all the same"

    assert "ok" in convd("verify", str(repository / "digits" / "1")).stdout
    refused = convd("train", "lenet", "--data", "digits", "--output", str(tmp_path / "out"))
    assert refused.returncode == 1
    assert "'.[train]'" in refused.stderr
    unreachable = convd(*ask)
    assert unreachable.returncode == 4
    assert "start one with 'convd serve'" in unreachable.stderr
