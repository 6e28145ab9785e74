"""A model that cannot be read, or never finishes loading, fails alone."""

import os
import re
import shutil
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from convd.service.lifecycle.patience import PatientRunner
from testbed.server import launched
from tests.service.hostile_networks import loop_for_ever
from tests.support import wait_until
from tests.tiny_artifact import publish_tiny

PORTS = re.compile(r"gRPC on \S+:(?P<grpc>\d+); .*http://\S+:(?P<http>\d+)")


def fifo(file: str) -> Callable[[Path], None]:
    def replace(model: Path) -> None:
        (model / file).unlink(missing_ok=True)
        os.mkfifo(model / file)

    return replace


def sparse_manifest(model: Path) -> None:
    os.truncate(model / "1" / "manifest.json", 3 * 2**30)


def device(model: Path) -> None:
    (model / "1" / "manifest.json").unlink()
    (model / "1" / "manifest.json").symlink_to("/dev/zero")


def network(alter: Callable[[Path], None]) -> Callable[[Path], None]:
    return lambda model: alter(model / "1")


@pytest.mark.parametrize(
    "spoil",
    [
        fifo("1/manifest.json"),
        fifo("1/model.onnx"),
        fifo("config.yaml"),
        sparse_manifest,
        device,
        network(loop_for_ever),
    ],
    ids=["manifest", "model", "config", "sparse", "device", "loop"],
)
def test_a_model_that_cannot_be_loaded_holds_up_nobody(
    spoil: Callable[[Path], None], tmp_path: Path
) -> None:
    repository = tmp_path / "repository"
    publish_tiny(repository, "absent")
    shutil.copytree(repository / "absent", repository / "zebra")
    spoil(repository / "absent")
    words: list[object] = ["-m", "convd", "serve", "--repository", repository, "--grpc-port", 0]
    words += ["--http-port", 0, "--load-patience-seconds", 1, "--drain-seconds", 1]
    with launched(words, tmp_path / "log", PORTS) as server:
        wait_until(lambda: "zebra version 1" in server.log.read_text())
        assert server.resident_bytes() < 600 * 1024 * 1024
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(1 + 2 + 6) == 0, server.log.read_text()


def test_a_step_that_hangs_is_left_behind() -> None:
    hang, stop = threading.Event(), threading.Event()
    runner = PatientRunner(0.3, stop)
    hanging = runner.run(hang.wait)
    assert not hanging.is_set()
    assert runner.run(lambda: time.sleep(0.01)).is_set()
    hang.set()
    assert hanging.wait(5)
    runner.close()
