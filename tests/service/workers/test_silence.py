"""A worker that says nothing is replaced, and one that can never start ends the server."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import grpc
import pytest

from convd.protos.convd.v1 import classification_pb2 as pb
from convd.protos.convd.v1.classification_pb2_grpc import ClassificationServiceStub
from testbed.server import environment, http_get, server_process
from tests.support import wait_until
from tests.tiny_artifact import publish_tiny

pytestmark = pytest.mark.slow


def test_a_stopped_worker_is_killed_and_replaced(tmp_path: Path) -> None:
    publish_tiny(tmp_path / "repository")
    flags = ("--workers", 2, "--worker-silence-seconds", 2, "--drain-seconds", 3)
    with server_process(tmp_path / "repository", tmp_path / "log", *flags) as server:
        found = re.findall(r"worker \d is process (\d+)", server.log.read_text())
        os.kill(int(found[0]), signal.SIGSTOP)
        wait_until(lambda: "killing worker" in server.log.read_text())
        # Not a line of the log: the supervisor may still have the last answer of the stopped one.
        wait_until(lambda: "convd_worker_restarts_total 1.0" in server.metrics())
        wait_until(lambda: http_get(server.http_port, "/readyz")[0] == 200)
        for _ in range(8):
            options = [("grpc.use_local_subchannel_pool", 1)]
            with grpc.insecure_channel(server.address, options=options) as channel:
                request = pb.ListModelsRequest()
                ClassificationServiceStub(channel).ListModels(request, timeout=10)
        assert server.terminate() == 0


def test_a_stopped_worker_does_not_hold_the_end_up(tmp_path: Path) -> None:
    publish_tiny(tmp_path / "repository")
    flags = ("--workers", 2, "--drain-seconds", 2)
    with server_process(tmp_path / "repository", tmp_path / "log", *flags) as server:
        found = re.findall(r"worker \d is process (\d+)", server.log.read_text())
        os.kill(int(found[0]), signal.SIGSTOP)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(2 + 2 + 6) == 3
        assert "killing it" in server.log.read_text()


def test_every_metric_can_be_asked_for_by_name(tmp_path: Path) -> None:
    publish_tiny(tmp_path / "repository")
    with server_process(tmp_path / "repository", tmp_path / "log", "--workers", 2) as server:
        names = set(re.findall(r"^([a-z_]+)", server.metrics(), re.MULTILINE))
        for name in sorted(names):
            answer = http_get(server.http_port, f"/metrics?name[]={name}")[1]
            assert re.search(rf"^{name}\b", answer, re.MULTILINE)
        assert "convd_ready 1.0" in http_get(server.http_port, "/metrics?name[]=convd_ready")[1]


def test_workers_that_can_never_start_end_the_server_with_the_reason(tmp_path: Path) -> None:
    publish_tiny(tmp_path / "repository")
    # The module that a worker imports first ends it, as a broken installation would.
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "sitecustomize.py").write_text(
        "import os, sys\nif '--multiprocessing-fork' in sys.argv: os._exit(41)\n"
    )
    words = ["-m", "convd", "serve", "--repository", str(tmp_path / "repository"), "--workers", "2"]
    started = time.monotonic()
    ended = subprocess.run(
        [sys.executable, *words, "--grpc-port", "0", "--http-port", "0"],
        env=environment() | {"PYTHONPATH": str(broken)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 1, time.monotonic() - started
    assert "cannot start: 5 times it ended before it answered" in ended.stderr
    assert "exit code 41" in ended.stderr
