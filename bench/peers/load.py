"""One load of h2load on a server of any protocol, with the time of each request."""

import functools
import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.h2load import write_request
from bench.peers.wire import Request

WARM_UP_SECONDS = 0.5

_OK = 200
_LONGEST_SECONDS = 30.0


@dataclass(frozen=True)
class Load:
    """What a client saw.

    Attributes:
        requests: Answers.
        seconds: How long it was measured.
        requests_per_second: Answers in a second.
        p50_seconds: Median time of a request.
        p99_seconds: Time that 99 % of the requests do not exceed.
    """

    requests: int
    seconds: float
    requests_per_second: float
    p50_seconds: float
    p99_seconds: float


def load(
    port: int,
    request: Request,
    folder: Path,
    *,
    concurrency: int,
    seconds: float,
    cores: set[int] | None = None,
) -> Load:
    """Keep a number of requests under way for some time, each on a connection of its own.

    Args:
        port: Where the server listens, on loopback.
        request: What is sent, again and again.
        folder: Where its body is written.
        concurrency: Requests under way at any time.
        seconds: For how long, or longer where no answer comes in that time; `WARM_UP_SECONDS` more
            are spent to warm up.
        cores: The cores that the client may run on; None for all.

    Raises:
        SystemExit: An answer is not OK, or there is none.
    """
    data = folder / "request"
    headers = dict(request.headers)
    if request.is_grpc:
        write_request(data, request.body)
        headers |= {"content-type": "application/grpc", "te": "trailers"}
    else:
        data.write_bytes(request.body)
    words: list[object] = ["h2load", "--clients", concurrency, "--max-concurrent-streams", 1]
    words += ["--duration", f"{seconds * 1000:.0f}ms", "--data", data]
    words += ["--warm-up-time", f"{WARM_UP_SECONDS * 1000:.0f}ms"]
    words += [] if request.is_grpc else ["--h1"]
    for name, value in headers.items():
        words += ["--header", f"{name}: {value}"]
    with tempfile.TemporaryDirectory() as temporary:
        log = Path(temporary) / "requests.log"
        words += ["--log-file", log, f"http://127.0.0.1:{port}{request.path}"]
        completed = subprocess.run(
            [str(word) for word in words],
            check=True,
            capture_output=True,
            text=True,
            preexec_fn=functools.partial(os.sched_setaffinity, 0, cores) if cores else None,
        )
        lines = [line.split() for line in log.read_text().splitlines()]
    if not lines and seconds < _LONGEST_SECONDS:
        longer = _LONGEST_SECONDS
        return load(port, request, folder, concurrency=concurrency, seconds=longer, cores=cores)
    if not lines or any(int(status) != _OK for _, status, _ in lines):
        raise SystemExit(f"not every answer was OK:\n{completed.stdout}")
    times = np.array([int(microseconds) for _, _, microseconds in lines]) / 1e6
    p50, p99 = np.percentile(times, (50, 99))
    return Load(len(lines), seconds, len(lines) / seconds, float(p50), float(p99))
