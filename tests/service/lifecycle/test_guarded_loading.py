"""A model that cannot be read, or never finishes loading, fails alone."""

import os
import re
import shutil
import signal
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from convd.artifact.bundle import MANIFEST_FILE, write_manifest
from convd.artifact.manifest import Manifest
from convd.service.lifecycle.patience import PatientRunner
from testbed.server import launched
from tests.service.hostile_networks import (
    double_again_and_again,
    fill_by_batch,
    fill_constant,
    loop_for_ever,
)
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


def unlisted_network(model: Path) -> None:
    manifest = Manifest.model_validate_json((model / "1" / MANIFEST_FILE).read_bytes())
    files = {file: checksum for file, checksum in manifest.files.items() if file != "model.onnx"}
    write_manifest(model / "1", manifest.model_copy(update={"files": files}))


def network(alter: Callable[[Path], None]) -> Callable[[Path], None]:
    return lambda model: alter(model / "1")


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (fifo("1/manifest.json"), "refused absent"),
        (fifo("1/model.onnx"), "refused absent"),
        (fifo("config.yaml"), "absent"),
        (sparse_manifest, "refused absent"),
        (device, "refused absent"),
        (unlisted_network, "model.onnx is not listed in manifest.json"),
        (network(loop_for_ever), "was not loaded and run once within 10 s"),
        (network(fill_constant), "takes more than 4 GiB of memory"),
        (network(fill_by_batch), "takes more than 4 GiB of memory"),
        (network(double_again_and_again), "takes more than 4 GiB of memory"),
    ],
    ids=[
        *("manifest", "model", "config", "sparse", "device", "unlisted"),
        *("loop", "constant of 12 GB", "run of 12 GB", "doubling"),
    ],
)
def test_a_model_that_cannot_be_loaded_holds_up_nobody(
    spoil: Callable[[Path], None], reason: str, tmp_path: Path
) -> None:
    repository = tmp_path / "repository"
    publish_tiny(repository, "absent")
    shutil.copytree(repository / "absent", repository / "zebra")
    spoil(repository / "absent")
    words: list[object] = ["-m", "convd", "serve", "--repository", repository, "--grpc-port", 0]
    words += ["--http-port", 0, "--load-patience-seconds", 1, "--drain-seconds", 1]
    with launched(words, tmp_path / "log", PORTS) as server:
        wait_until(lambda: "zebra version 1" in server.log.read_text())
        wait_until(lambda: reason in server.log.read_text())
        assert server.resident_bytes() < 600 * 1024 * 1024
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(1 + 2 + 6) == 0, server.log.read_text()


def test_a_step_that_hangs_is_left_behind() -> None:
    hang, stop = threading.Event(), threading.Event()
    runner = PatientRunner(0.3, stop)
    done: list[str] = []
    steps: dict[str, Callable[[], object]] = {
        "hanging": hang.wait,
        "second": lambda: done.append("second"),
    }
    [(name, over)] = runner.run(steps).items()
    assert (name, done) == ("hanging", ["second"])
    assert not over.is_set()
    assert runner.run({"third": lambda: time.sleep(0.01)}) == {}
    hang.set()
    assert over.wait(5)
    runner.close()


def test_steps_run_side_by_side_and_no_more_than_allowed() -> None:
    runner = PatientRunner(30.0, threading.Event(), max_threads=3)
    together = threading.Barrier(3)
    running: set[int] = set()
    most: list[int] = []

    def step(number: int) -> None:
        running.add(number)
        most.append(len(running))
        together.wait(20)
        running.discard(number)

    assert runner.run({str(number): partial(step, number) for number in range(9)}) == {}
    assert max(most) == 3
    runner.close()


def test_a_stop_waits_for_nothing() -> None:
    stop, hang = threading.Event(), threading.Event()
    runner = PatientRunner(30.0, stop, max_threads=2)
    threading.Timer(0.2, stop.set).start()
    assert set(runner.run(dict.fromkeys("ab", hang.wait))) == {"a", "b"}
    hang.set()
