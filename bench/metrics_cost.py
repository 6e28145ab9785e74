"""What metrics cost: servers with and without them, alternating in one run.

There is no switch for it in `convd serve`, because nobody would be served by one. The server
without metrics is the same application given a `Silence`, which hears everything and counts
nothing. What is left in both is the reading of clocks.

On a machine that others use, throughput is noise; the processor time that the server spends on a
request is not, and on one core it is what throughput is made of.

    python -m bench.metrics_cost --repository runs/demo/repository --model digits
"""

import argparse
import contextlib
import multiprocessing
import os
import signal
import statistics
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import psutil

from bench import h2load
from convd.artifact.bundle import Artifact
from convd.artifact.manifest import Manifest
from convd.artifact.repository import ModelRepository
from convd.protos.convd.v1 import classification_pb2 as pb
from convd.protos.convd.v1.classification_pb2_grpc import ClassificationServiceStub
from convd.service.application import Application
from convd.service.metrics import Metrics, RequestRecord, VersionMetrics
from convd.service.settings_sources import load_settings

START_SECONDS = 60.0


class _Nothing:
    def observe(self, value: float, trace_id: str = "") -> None:
        """Hear a value."""

    def inc(self, amount: float = 1) -> None:
        """Hear a count."""


class SilentVersion(VersionMetrics):
    """Hears what a servable does and counts nothing."""

    def __init__(self) -> None:
        nothing: Any = _Nothing()
        self.decode_seconds = self.preprocess_seconds = self.images_refused = nothing

    def answered(self, record: RequestRecord) -> None:
        """Hear of an answer."""

    def failed(self, record: RequestRecord, error: BaseException) -> None:
        """Hear of a failure."""

    def batch_executed(self, rows: int, inference_seconds: float) -> None:
        """Hear of a batch."""

    def close(self) -> None:
        """Hear of the end."""

    def rejected(self, rows: int) -> None:
        """Hear of a refusal."""

    expired = cancelled = rejected


class Silence(Metrics):
    """Hears what a server does and counts nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.request_answered = lambda *_: None

    def for_version(self, model: str, version: int, manifest: Manifest) -> VersionMetrics:  # noqa: ARG002
        """Metrics of one version that count nothing."""
        return SilentVersion()


@dataclass(frozen=True)
class Running:
    """A server that runs."""

    grpc_port: int
    http_port: int
    process: psutil.Process

    def cpu_seconds(self) -> float:
        """Processor time that it has used so far."""
        times = self.process.cpu_times()
        return float(times.user + times.system)


def main() -> None:
    """Measure, and print what each server manages and what a request costs it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repository", type=Path, required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--concurrency", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--seconds", type=int, default=1, help="length of a round of each server")
    arguments = parser.parse_args()
    h2load.check_installed()
    cores = sorted(os.sched_getaffinity(0))
    with (
        tempfile.TemporaryDirectory() as folder,
        _server(Metrics, arguments.repository, cores[0]) as loud,
        _server(Silence, arguments.repository, cores[0]) as silent,
    ):
        message = _message(arguments.repository, arguments.model)
        request = h2load.write_request(Path(folder) / "request", message)
        for one in (loud, silent):
            _check_answer(one.grpc_port, message)
        servers = {"with metrics": loud, "without": silent}
        rates: dict[str, list[float]] = {name: [] for name in servers}
        costs: dict[str, list[float]] = {name: [] for name in servers}
        for number in range(arguments.rounds + 1):
            # Who comes first takes turns too; the first round only warms up.
            for name in sorted(servers, reverse=bool(number % 2)):
                server = servers[name]
                before = server.cpu_seconds()
                rate = h2load.load(
                    f"127.0.0.1:{server.grpc_port}",
                    h2load.CLASSIFY,
                    request,
                    concurrency=arguments.concurrency,
                    seconds=arguments.seconds,
                    cores={cores[-1]},
                ).requests_per_second
                if number:
                    # The second in which h2load warms up costs processor time too.
                    answered = rate * (arguments.seconds + 1)
                    rates[name].append(rate)
                    costs[name].append((server.cpu_seconds() - before) / answered)
        _check_silence(silent.http_port, loud.http_port)
    for name in servers:
        rate, cost = statistics.median(rates[name]), statistics.median(costs[name])
        print(f"{name:>12}: {rate:6.0f} requests/s, {cost * 1e6:6.1f} us of processor time each")
    _print_ratio("throughput", rates["with metrics"], rates["without"])
    _print_ratio("by processor time", costs["without"], costs["with metrics"])


def _print_ratio(what: str, above: list[float], below: list[float]) -> None:
    ratios = [one / other for one, other in zip(above, below, strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    print(f"{what}: {middle:.3f} of the server without metrics (quartiles {low:.3f} to {high:.3f})")


@contextlib.contextmanager
def _server(metrics: Callable[[], Metrics], repository: Path, core: int) -> Iterator[Running]:
    """Run a server on one core."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(metrics, repository, core, there))
    process.start()
    try:
        if not here.poll(START_SECONDS):
            raise SystemExit("the server did not become ready")
        grpc_port, http_port = here.recv()
        yield Running(grpc_port, http_port, psutil.Process(process.pid))
    finally:
        if process.pid is not None and process.is_alive():
            os.kill(process.pid, signal.SIGTERM)
        process.join(START_SECONDS)
        process.kill()


def _serve(metrics: Callable[[], Metrics], repository: Path, core: int, parent: Connection) -> None:
    os.sched_setaffinity(0, {core})
    settings = load_settings({"repository": repository, "grpc_port": 0, "http_port": 0})
    application = Application(settings, metrics())
    application.start()
    while application.unready_reason():
        time.sleep(0.05)
    parent.send((application.grpc_port, application.http_port))
    signal.sigwait({signal.SIGTERM})
    application.drain()


def _message(repository: Path, model: str) -> bytes:
    """A request that asks about one prepared image, the cheapest that there is."""
    models = ModelRepository(repository)
    artifact = Artifact.open(models.version_path(model, max(models.versions(model))))
    shape = artifact.manifest.preprocessing.output_shape
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    request = pb.ClassifyRequest(
        model=pb.ModelSpec(name=model), images=[pb.Image(prepared=pixels.tobytes())], top_k=1
    )
    return request.SerializeToString()


def _check_answer(port: int, message: bytes) -> None:
    """An error costs little, and h2load would not see it."""
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        ClassificationServiceStub(channel).Classify(pb.ClassifyRequest.FromString(message))


def _check_silence(silent_port: int, loud_port: int) -> None:
    """A comparison of a server with itself would look like a success."""
    counted = f'method="{h2load.CLASSIFY}"'
    for port, expected in ((silent_port, False), (loud_port, True)):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            if (counted in answer.read().decode()) is not expected:
                raise SystemExit(f"the server on port {port} counts, or does not, against its name")


if __name__ == "__main__":
    main()
