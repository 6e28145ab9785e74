"""The command line as the benchmarks type it, and a server that it starts."""

import contextlib
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

START_SECONDS = 60.0


class Ports(NamedTuple):
    """Where a server listens on loopback."""

    grpc: int
    http: int


def convd(*arguments: object, capture: bool = False) -> str:
    """Run a command of convd; a failure ends this program.

    Args:
        arguments: The command's words.
        capture: Whether its standard output is returned in place of being shown.
    """
    words = [str(argument) for argument in arguments]
    if not capture:
        print(f"\n$ convd {' '.join(words)}", flush=True)
    completed = subprocess.run(
        [sys.executable, "-m", "convd", *words],
        check=False,
        text=True,
        stdout=subprocess.PIPE if capture else None,
    )
    if completed.returncode != 0:
        raise SystemExit(completed.returncode)
    return completed.stdout or ""


@contextlib.contextmanager
def server(repository: Path, log: Path, *options: object) -> Iterator[Ports]:
    """Run a server on free ports until the block ends, then drain it.

    Args:
        repository: The models to serve.
        log: Where its log is written.
        options: Further options of `convd serve`.
    """
    arguments = ["serve", "--repository", repository, "--grpc-port", 0, "--http-port", 0, *options]
    words = [str(argument) for argument in arguments]
    print(f"\n$ convd {' '.join(words)} &", flush=True)
    with log.open("w") as stderr:
        process = subprocess.Popen([sys.executable, "-m", "convd", *words], stderr=stderr)
    try:
        ports = _wait_until_ready(process, log)
        for line in log.read_text().splitlines():
            if "available: " in line:
                print(line)
        yield ports
        process.send_signal(signal.SIGTERM)
        if process.wait(timeout=START_SECONDS) != 0:
            raise SystemExit(f"the server did not drain; see {log}")
    finally:
        process.kill()


def http_get(url: str) -> str:
    """Body of an HTTP answer."""
    with urllib.request.urlopen(url, timeout=10) as response:  # noqa: S310
        return str(response.read().decode())


def _wait_until_ready(process: "subprocess.Popen[bytes]", log: Path) -> Ports:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        found = re.search(r"gRPC on \S+:(\d+); .*http://\S+:(\d+)", log.read_text())
        if found is not None:
            ports = Ports(int(found[1]), int(found[2]))
            with contextlib.suppress(OSError):
                http_get(f"http://127.0.0.1:{ports.http}/readyz")
                return ports
        time.sleep(0.1)
    raise SystemExit(f"the server did not become ready:\n{log.read_text()}")
