"""A server in a process of its own, for what is measured from outside."""

import contextlib
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_START_SECONDS = 120.0


@dataclass
class Served:
    """A running `convd serve`.

    Attributes:
        process: The process.
        log: Where its log goes.
        grpc_port: Its gRPC port.
        http_port: Its HTTP port.
    """

    process: "subprocess.Popen[bytes]"
    log: Path
    grpc_port: int = 0
    http_port: int = 0

    def get(self, path: str) -> tuple[int, str]:
        """Status and text of one of its HTTP endpoints."""
        url = f"http://127.0.0.1:{self.http_port}{path}"
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def is_ready(self) -> bool:
        """Whether it is ready now."""
        with contextlib.suppress(OSError):
            return self.get("/readyz")[0] == 200
        return False


@contextlib.contextmanager
def served(repository: Path, log: Path, *flags: object) -> Iterator[Served]:
    """Run `convd serve` on free ports until the block ends; it has to drain and exit with 0."""
    command = [sys.executable, "-m", "convd", "serve", "--repository", str(repository)]
    command += ["--grpc-port", "0", "--http-port", "0", *map(str, flags)]
    with log.open("w") as stderr:
        process = subprocess.Popen(command, stderr=stderr)
    server = Served(process, log)
    try:
        deadline = time.monotonic() + _START_SECONDS
        while not (_has_ports(server) and server.is_ready()):
            if time.monotonic() > deadline or process.poll() is not None:
                raise SystemExit(f"the server did not become ready:\n{log.read_text()}")
            time.sleep(0.05)
        yield server
        process.send_signal(signal.SIGTERM)
        if process.wait(timeout=_START_SECONDS) != 0:
            raise SystemExit(f"the server did not exit with 0:\n{log.read_text()}")
    finally:
        process.kill()
        process.wait()


def _has_ports(server: Served) -> bool:
    found = re.search(r"gRPC on \S+:(\d+); .*http://\S+:(\d+)", server.log.read_text())
    if found is not None:
        server.grpc_port, server.http_port = int(found[1]), int(found[2])
    return found is not None
