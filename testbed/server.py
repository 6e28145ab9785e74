"""Servers in processes of their own, with ports, logs, memory and processor time at hand."""

import contextlib
import dataclasses
import functools
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from http import HTTPStatus
from pathlib import Path

import psutil

START_SECONDS = 120.0
DRAIN_SECONDS = 60.0
CONVD_PORTS = re.compile(r"gRPC on \S+:(?P<grpc>\d+); .*https?://\S+:(?P<http>\d+)")

_WITHOUT_COLLECTOR = (
    "import gc, runpy; gc.disable(); runpy.run_module('convd', run_name='__main__', alter_sys=True)"
)


class StartError(RuntimeError):
    """A server did not start, or did not become ready; the text holds its log."""


@dataclasses.dataclass(frozen=True)
class ServerProcess:
    """A server in a process of its own.

    Attributes:
        process: The process.
        log: Where all that it writes goes.
        grpc_port: Where it answers calls.
        http_port: Where convd shows metrics and health; 0 for a server without.
        authority: The certificate (PEM) that HTTPS is verified with; None for plain HTTP.
        token: Sent with each request over HTTP; empty for none.
    """

    process: "subprocess.Popen[bytes]"
    log: Path
    grpc_port: int
    http_port: int = 0
    authority: Path | None = None
    token: str = ""

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    @property
    def address(self) -> str:
        """Where clients connect."""
        return f"127.0.0.1:{self.grpc_port}"

    def metrics(self) -> str:
        """The text of its metrics endpoint."""
        return self.get("/metrics")[1]

    def get(self, path: str) -> tuple[int, str]:
        """Status and text of an HTTP endpoint."""
        return http_get(self.http_port, path, authority=self.authority, token=self.token)

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

    def terminate(self) -> int:
        """Send SIGTERM, wait for the end, and return the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=DRAIN_SECONDS)


@contextlib.contextmanager
def server_process(
    repository: Path | str,
    log: Path,
    *flags: object,
    env: Mapping[str, str] | None = None,
    cores: set[int] | None = None,
    collects_garbage: bool = True,
    under: Sequence[object] = (),
    authority: Path | None = None,
    token: str = "",
) -> Iterator[ServerProcess]:
    """Run `convd serve` on free ports; it is ready when the block begins, and gone after it.

    Args:
        repository: The models: a folder, or a place in object storage.
        log: Where its log goes.
        *flags: More flags of `convd serve`.
        env: Its environment; None for this one without convd's variables.
        cores: The cores that it may run on; None for all.
        collects_garbage: Whether the garbage collector runs; without it, what it would have to free
            shows as memory that grows.
        under: The words of a program that runs it, such as strace, and leaves it its process id.
        authority: The certificate (PEM) that its HTTPS is verified with; None for plain HTTP.
        token: Sent with each request for metrics; empty for none.

    Raises:
        StartError: It did not become ready.
    """
    program = ["-m", "convd"] if collects_garbage else ["-c", _WITHOUT_COLLECTOR]
    words = [*program, "serve", "--repository", repository, "--grpc-port", 0, "--http-port", 0]
    with launched([*words, *flags], log, CONVD_PORTS, env=env, cores=cores, under=under) as server:
        server = dataclasses.replace(server, authority=authority, token=token)
        _wait_until_ready(server)
        yield server


@contextlib.contextmanager
def launched(
    words: Sequence[object],
    log: Path,
    ports: re.Pattern[str],
    *,
    env: Mapping[str, str] | None = None,
    cores: set[int] | None = None,
    under: Sequence[object] = (),
) -> Iterator[ServerProcess]:
    """Run a server with this interpreter; it listens when the block begins, and is gone after it.

    Args:
        words: The interpreter's arguments.
        log: Where its output goes.
        ports: Matches what it prints once it listens, with a group `grpc` and perhaps `http`.
        env: Its environment; None for this one without convd's variables.
        cores: The cores that it may run on; None for all.
        under: The words of a program that runs it, and leaves it its process id.

    Raises:
        StartError: It ended, or never printed its ports.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    pin = functools.partial(os.sched_setaffinity, 0, cores) if cores else None
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*map(str, under), sys.executable, *map(str, words)],
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment() if env is None else env,
            preexec_fn=pin,
        )
    try:
        found = _wait_for_ports(process, log, ports)
        server = ServerProcess(process, log, int(found["grpc"]), int(found.get("http") or 0))
        yield server
        if process.poll() is None:
            server.terminate()
    finally:
        process.kill()
        process.wait()


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nothing listens on."""
    with contextlib.ExitStack() as stack:
        sockets = [
            stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)
        ]
        return [int(one.getsockname()[1]) for one in sockets]


def environment() -> dict[str, str]:
    """The environment without convd's own variables."""
    return {key: value for key, value in os.environ.items() if not key.startswith("CONVD_")}


def http_get(
    port: int, path: str, *, authority: Path | None = None, token: str = ""
) -> tuple[int, str]:
    """Status and text of an HTTP endpoint on loopback.

    Args:
        port: The port.
        path: The path.
        authority: The certificate (PEM) that HTTPS is verified with; None for plain HTTP.
        token: Sent with the request; empty for none.
    """
    scheme = "https" if authority else "http"
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    request = urllib.request.Request(f"{scheme}://127.0.0.1:{port}{path}", headers=headers)
    context = ssl.create_default_context(cafile=str(authority)) if authority else None
    try:
        with urllib.request.urlopen(request, timeout=10, context=context) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def _wait_for_ports(
    process: "subprocess.Popen[bytes]", log: Path, ports: re.Pattern[str]
) -> dict[str, str]:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        found = ports.search(log.read_text())
        if found is not None:
            return found.groupdict()
        time.sleep(0.02)
    raise StartError(f"the server did not start:\n{log.read_text()}")


def _wait_until_ready(server: ServerProcess) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and server.process.poll() is None:
        with contextlib.suppress(OSError):
            if server.get("/readyz")[0] == HTTPStatus.OK:
                return
        time.sleep(0.02)
    raise StartError(f"the server did not become ready:\n{server.log.read_text()}")
