"""`make demo`: from a real data set to a real probability over gRPC, with nothing left out.

Every step is the command that a user would type; this module only types them.
"""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from models.data import load_dataset

RUN = Path("runs/demo")
CHECKPOINT = RUN / "checkpoint"
REPOSITORY = RUN / "repository"
START_SECONDS = 60.0
# A digit as most are; the first one that is held out is a 5 that looks like a 9.
SHOWN_DIGIT = 7


def main() -> None:
    """Train, export, serve, classify, and read the request counter back."""
    _convd("train", "lenet", "--data", "digits", "--output", CHECKPOINT, "--overwrite")
    _convd("export", CHECKPOINT, "--name", "digits", "--repository", REPOSITORY)
    with _server() as (grpc_port, http_port):
        image, label = _held_out_digit()
        print(f"\n# a held-out digit of class {label!r}")
        server = f"127.0.0.1:{grpc_port}"
        ask = ("classify", image, "--model", "digits", "--top-k", 0, "--server", server)
        _convd(*ask)
        answer = json.loads(_convd(*ask, "--json", capture=True))
        metrics = _get(f"http://127.0.0.1:{http_port}/metrics")
    best = answer["classes"][0]["label"]
    if best != label:
        raise SystemExit(f"the network took a {label!r} for a {best!r}")
    print("\n# what the server counted")
    counters = [line for line in metrics.splitlines() if _is_our_counter(line)]
    if not counters:
        raise SystemExit("/metrics shows no classified request")
    print("\n".join(counters))
    print("\nThat was the whole way. Next: make serve, or 'convd --help'.")


def _convd(*arguments: object, capture: bool = False) -> str:
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
def _server() -> Iterator[tuple[int, int]]:
    """Run a server on free ports until the block ends, then drain it."""
    arguments = ["serve", "--repository", str(REPOSITORY), "--grpc-port", "0", "--http-port", "0"]
    print(f"\n$ convd {' '.join(arguments)} &", flush=True)
    log = RUN / "server.log"
    with log.open("w") as stderr:
        process = subprocess.Popen([sys.executable, "-m", "convd", *arguments], stderr=stderr)
    try:
        ports = _wait_until_ready(process, log)
        print(_serving_line(log))
        yield ports
        process.send_signal(signal.SIGTERM)
        if process.wait(timeout=START_SECONDS) != 0:
            raise SystemExit(f"the server did not drain; see {log}")
    finally:
        process.kill()


def _wait_until_ready(process: "subprocess.Popen[bytes]", log: Path) -> tuple[int, int]:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        found = re.search(r"gRPC on \S+:(\d+); .*http://\S+:(\d+)", log.read_text())
        if found is not None:
            grpc_port, http_port = int(found[1]), int(found[2])
            with contextlib.suppress(OSError):
                _get(f"http://127.0.0.1:{http_port}/readyz")
                return grpc_port, http_port
        time.sleep(0.1)
    raise SystemExit(f"the server did not become ready:\n{log.read_text()}")


def _serving_line(log: Path) -> str:
    return next((line for line in log.read_text().splitlines() if "available: " in line), "")


def _held_out_digit() -> tuple[Path, str]:
    """Write a digit that training never saw as a PNG."""
    held_out = load_dataset("digits").held_out
    path = RUN / "digit.png"
    held_out.picture(SHOWN_DIGIT).save(path)
    return path, held_out.labels[held_out.target(SHOWN_DIGIT)]


def _get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as response:  # noqa: S310
        return str(response.read().decode())


def _is_our_counter(line: str) -> bool:
    return line.startswith("convd_requests_total{") and "/Classify" in line


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    main()
