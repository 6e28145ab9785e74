"""The command line as the benchmarks type it, and a server that it starts."""

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from testbed.server import ServerProcess, server_process


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
def server(repository: Path, log: Path, *flags: object) -> Iterator[ServerProcess]:
    """Run a server on free ports until the block ends, and show what it loaded.

    Args:
        repository: The models to serve.
        log: Where its log is written.
        *flags: Further flags of `convd serve`.
    """
    words = ["serve", "--repository", repository, "--grpc-port", 0, "--http-port", 0, *flags]
    print(f"\n$ convd {' '.join(map(str, words))} &", flush=True)
    with server_process(repository, log, *flags) as server:
        for line in log.read_text().splitlines():
            if "available: " in line:
                print(line)
        yield server
        if server.terminate() != 0:
            raise SystemExit(f"the server did not drain; see {log}")
