"""Servers in processes of their own, on cores of their own."""

import contextlib
import dataclasses
import functools
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil

_START_SECONDS = 120.0
_CONVD_PORTS = re.compile(r"gRPC on \S+:(\d+); .*http://\S+:(\d+)")
_ECHO_PORT = re.compile(r"echo on \S+:(\d+)()")


@dataclasses.dataclass(frozen=True)
class RunningServer:
    """A server that answers.

    Attributes:
        pid: Its process.
        grpc_port: Where it answers.
        http_port: Where convd shows its metrics; 0 for another server.
        log: What it has said so far.
    """

    pid: int
    grpc_port: int
    http_port: int
    log: Path

    @property
    def address(self) -> str:
        """Where clients connect."""
        return f"127.0.0.1:{self.grpc_port}"

    def metrics(self) -> str:
        """The text of its metrics endpoint."""
        return _get(self.http_port, "/metrics")

    def counted(self, name: str) -> dict[str, float]:
        """Values of one metric, by the text of their labels."""
        lines = re.findall(rf"^{name}(?:{{(.*)}})? (\S+)$", self.metrics(), re.MULTILINE)
        return {labels: float(value) for labels, value in lines}

    def cpu_seconds(self) -> float:
        """Processor time that it has used so far."""
        times = psutil.Process(self.pid).cpu_times()
        return float(times.user + times.system)

    def resident_bytes(self) -> int:
        """Its resident memory."""
        return int(psutil.Process(self.pid).memory_info().rss)


@contextlib.contextmanager
def serving(
    repository: Path, log: Path, *flags: object, cores: set[int] | None = None
) -> Iterator[RunningServer]:
    """Run `convd serve` on free ports until the block ends; it is ready when the block begins.

    Args:
        repository: The models.
        log: Where its log goes.
        *flags: More flags of `convd serve`.
        cores: The cores that it may run on; None for all.
    """
    words = ["-m", "convd", "serve", "--repository", repository, "--grpc-port", 0, "--http-port", 0]
    with _process([*words, *flags], log, cores) as process:
        grpc_port, http_port = _wait_for_ports(process, log, _CONVD_PORTS)
        deadline = time.monotonic() + _START_SECONDS
        while not _is_ready(http_port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"the server did not become ready:\n{log.read_text()}")
            time.sleep(0.1)
        yield RunningServer(process.pid, grpc_port, http_port, log)


@contextlib.contextmanager
def echoing(log: Path, *, cores: set[int] | None = None) -> Iterator[RunningServer]:
    """Run a bare gRPC server that returns what it gets: the most that the transport can do."""
    with _process(["-m", "convd.bench.echo"], log, cores) as process:
        port, _ = _wait_for_ports(process, log, _ECHO_PORT)
        yield RunningServer(process.pid, port, 0, log)


@contextlib.contextmanager
def _process(
    words: list[object], log: Path, cores: set[int] | None
) -> "Iterator[subprocess.Popen[bytes]]":
    log.parent.mkdir(parents=True, exist_ok=True)
    pin = functools.partial(os.sched_setaffinity, 0, cores) if cores else None
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, *map(str, words)],
            stdout=output,
            stderr=subprocess.STDOUT,
            preexec_fn=pin,
        )
    try:
        yield process
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)
    finally:
        process.kill()
        process.wait()


def _wait_for_ports(
    process: "subprocess.Popen[bytes]", log: Path, ports: re.Pattern[str]
) -> tuple[int, int]:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        found = ports.search(log.read_text())
        if found is not None:
            return int(found[1]), int(found[2] or 0)
        time.sleep(0.05)
    raise SystemExit(f"the server did not start:\n{log.read_text()}")


def _is_ready(http_port: int) -> bool:
    try:
        return _get(http_port, "/readyz").startswith("ready")
    except urllib.error.HTTPError:
        return False


def _get(port: int, path: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as response:
        return str(response.read().decode())
