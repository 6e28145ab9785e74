"""h2load as a gRPC client: one request, again and again, in a closed loop or at a rate.

h2load (of nghttp2) costs little processor time, so that the server keeps the cores for itself. It
counts every answer that arrives; whether gRPC called it an error, the server's metrics have to say.
"""

import functools
import os
import re
import shutil
import struct
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from testbed.server import ServerProcess

CLASSIFY = "/convd.v1.ClassificationService/Classify"
INFER = "/inference.GRPCInferenceService/ModelInfer"

# A connection may have more, else its client would be refused before convd hears of it.
_MAX_FLOOD_STREAMS = 200


@dataclass(frozen=True)
class LoadResult:
    """What one run saw.

    Attributes:
        requests_per_second: Answers in a second.
        mean_seconds: Mean time of a request.
    """

    requests_per_second: float
    mean_seconds: float


def check_installed() -> None:
    """Fail with what to do where h2load is missing."""
    if shutil.which("h2load") is None:
        raise SystemExit("h2load is not installed: apt-get install nghttp2-client")


def write_request(path: Path, message: bytes) -> Path:
    """Write a message as it travels in gRPC: not compressed, its length, its bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack(">BI", 0, len(message)) + message)
    return path


def load(
    address: str,
    method: str,
    request: Path,
    *,
    concurrency: int,
    seconds: float,
    cores: set[int] | None = None,
    token: str = "",
    tls: bool = False,
) -> LoadResult:
    """Keep a number of requests under way for some time.

    Args:
        address: Host and port.
        method: Full name of the method.
        request: A file of `write_request`.
        concurrency: Requests under way at any time, each on a connection of its own.
        seconds: For how long; a second more is spent to warm up.
        cores: The cores that the client may run on; None for all.
        token: A bearer token that each request carries; empty for none.
        tls: Whether the connections are encrypted.
    """
    words = ["--clients", concurrency, "--max-concurrent-streams", 1]
    words += ["--duration", f"{seconds * 1000:.0f}ms", "--warm-up-time", 1]
    words += _with_token(token)
    return _parse(_run(address, method, request, words, cores, tls=tls))


def load_count(
    address: str, method: str, request: Path, count: int, *, concurrency: int = 1
) -> int:
    """Send a number of requests, whatever the answers; returns how many were sent."""
    words = ["--clients", concurrency, "--max-concurrent-streams", 1, "--requests", count]
    _parse(_run(address, method, request, words))
    return count


def latencies(
    address: str,
    method: str,
    request: Path,
    *,
    concurrency: int = 1,
    seconds: float,
    tls: bool = False,
) -> list[float]:
    """Seconds of each request, in ascending order, of a load as `load` makes it."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "requests.log"
        words = ["--clients", concurrency, "--max-concurrent-streams", 1, "--log-file", log]
        words += ["--duration", f"{seconds * 1000:.0f}ms", "--warm-up-time", 1]
        _parse(_run(address, method, request, words, tls=tls))
        return _logged_seconds(log)


def load_at_rate(
    address: str,
    method: str,
    request: Path,
    *,
    requests_per_second: float,
    seconds: float,
    deadline_seconds: float,
    token: str = "",
    cores: set[int] | None = None,
) -> list[float]:
    """Send at even distances over one connection, whether or not answers come: an open loop.

    Args:
        address: Host and port.
        method: Full name of the method.
        request: A file of `write_request`.
        requests_per_second: How many are sent.
        seconds: For how long; then it is waited for the answers that are missing.
        deadline_seconds: The deadline that each request carries.
        token: A bearer token that each request carries; empty for none.
        cores: The cores that the client may run on; None for all.

    Returns:
        Seconds that each request took, whatever its answer, in ascending order.
    """
    count = round(requests_per_second * seconds)
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "requests.log"
        words = ["--clients", 1, "--max-concurrent-streams", count, "--requests", count]
        words += ["--rps", requests_per_second, "--log-file", log, *_with_token(token)]
        words += ["--header", f"grpc-timeout: {deadline_seconds * 1000:.0f}m"]
        _parse(_run(address, method, request, words, cores))
        return _logged_seconds(log)


def flood(
    address: str,
    method: str,
    request: Path,
    *,
    requests_per_second: float,
    seconds: float,
    token: str,
    cores: set[int] | None = None,
) -> None:
    """Send at even distances over one connection, and care for no answer.

    Args:
        address: Host and port.
        method: Full name of the method.
        request: A file of `write_request`.
        requests_per_second: How many are sent.
        seconds: For how long.
        token: A bearer token that each request carries.
        cores: The cores that the client may run on; None for all.
    """
    count = round(requests_per_second * seconds)
    words = ["--clients", 1, "--max-concurrent-streams", _MAX_FLOOD_STREAMS, "--requests", count]
    words += ["--rps", requests_per_second, *_with_token(token)]
    _run(address, method, request, words, cores)


def mean_batch_rows(server: ServerProcess) -> float:
    """Mean rows of a server's batches; ends the program if it refused requests of the load."""
    failed = sum(
        value
        for labels, value in server.counted("convd_requests_total").items()
        if ("Classify" in labels or "ModelInfer" in labels)
        and 'code="OK"' not in labels
        and 'code="CANCELLED"' not in labels
    )
    if failed:
        raise SystemExit(f"the server refused {failed:.0f} requests; see {server.log}")
    rows = sum(server.counted("convd_batch_size_rows_sum").values())
    return rows / sum(server.counted("convd_batch_size_rows_count").values())


def _with_token(token: str) -> list[object]:
    return ["--header", f"authorization: Bearer {token}"] if token else []


def _run(
    address: str,
    method: str,
    request: Path,
    words: list[object],
    cores: set[int] | None = None,
    *,
    tls: bool = False,
) -> str:
    command = ["h2load", *words, "--data", request]
    command += ["--header", "content-type: application/grpc", "--header", "te: trailers"]
    pin = functools.partial(os.sched_setaffinity, 0, cores) if cores else None
    completed = subprocess.run(
        [*map(str, command), f"{'https' if tls else 'http'}://{address}{method}"],
        check=True,
        capture_output=True,
        text=True,
        preexec_fn=pin,
    )
    return completed.stdout


def _logged_seconds(log: Path) -> list[float]:
    """Seconds of each request in a log of h2load, in ascending order."""
    return sorted(int(line.split()[2]) / 1e6 for line in log.read_text().splitlines())


def _parse(text: str) -> LoadResult:
    rate = re.search(r"finished in \S+, ([\d.]+) req/s", text)
    times = re.search(r"time for request:\s+\S+\s+\S+\s+([\d.]+)(us|ms|s)", text)
    failed = re.search(r"(\d+) failed, (\d+) errored, (\d+) timeout", text)
    if rate is None or times is None or failed is None or any(map(int, failed.groups())):
        raise SystemExit(f"h2load failed:\n{text}")
    unit_seconds = {"us": 1e-6, "ms": 1e-3, "s": 1.0}[times[2]]
    return LoadResult(float(rate[1]), float(times[1]) * unit_seconds)
