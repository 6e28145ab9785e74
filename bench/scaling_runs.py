"""Servers behind Envoy on this machine: what a call costs, and what callers get."""

import contextlib
import io
import os
import resource
import statistics
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort
import psutil

from bench.drills.fleet import Fleet
from bench.h2load import CLASSIFY, latencies, write_request
from bench.networks import NoisePictures, repository_of_one
from bench.simulate import percentile
from bench.simulated_server import Costs
from convd.artifact.bundle import MODEL_FILE, Artifact
from convd.artifact.decoding import decode_image
from convd.artifact.graph_contract import IMAGE
from convd.artifact.preprocessing import prepare_image
from convd.commands.load_generator import random_requests
from testbed.authorities import Authority
from testbed.envoy import Configuration, Envoy, envoy

ARCHITECTURE = "resnet18"
CALLERS = 12
# One runner and one core for each server, which is what the simulation has.
FLAGS = (
    *("--provider", "cpu", "--intra-op-threads", 1, "--max-concurrent-executions", 1),
    *("--max-queue-delay-seconds", 0),
)
_SHAPE = (224, 224, 3)
_ROWS = (1, 2, 4, 8)
_REPEATS = 15
_PICTURE_SIZE = (640, 427)


@dataclass(frozen=True)
class Measured:
    """What a run gave.

    Attributes:
        servers: How many servers.
        calls_per_second: Answers.
        p50_seconds: Median time of a call.
        p99_seconds: 99th percentile.
    """

    servers: int
    calls_per_second: float
    p50_seconds: float
    p99_seconds: float


@dataclass(frozen=True)
class Calibration:
    """What the parts of a call cost here, measured apart from the runs that are predicted.

    Attributes:
        costs: Processor time of the parts of a call.
        cores: How much more the cores do together than one alone.
        picture_bytes: Size of a typical JPEG.
        picture_seconds: Processor time to decode and prepare it.
    """

    costs: Costs
    cores: float
    picture_bytes: int
    picture_seconds: float


class Bench:
    """One network and Envoy's program.

    Args:
        folder: Where everything is written.
        repository: The network.
        program: Envoy's program.
    """

    def __init__(self, folder: Path, repository: Path, program: Path) -> None:
        self._folder = folder
        self._repository = repository
        self._program = program
        [path] = repository.glob("*/*/manifest.json")
        self._version = path.parent
        self._artifact = Artifact.open(self._version)
        [request] = random_requests(ARCHITECTURE, _SHAPE)
        self._request = write_request(folder / "request", request.SerializeToString())
        self._certificate = Authority(folder / "access").issue("server")

    def run(self, servers: int, seconds: float) -> Measured:
        """Load servers with a closed loop."""
        with self._edge(servers) as (_, edge):
            found = self._load(edge, CALLERS, seconds)
        rate = CALLERS / statistics.fmean(found)
        return Measured(servers, rate, percentile(found, 50), percentile(found, 99))

    def calibrate(self, seconds: float) -> Calibration:
        """Measure the network in this process, and a lone caller's calls through Envoy."""
        batch, row, variation, cores = self._network()
        with self._edge(1) as (fleet, edge):
            before, answered = _processor_seconds(fleet, edge), fleet.answered()[0]
            self._load(edge, 1, seconds)
            spent = [b - a for a, b in zip(before, _processor_seconds(fleet, edge), strict=True)]
            calls = fleet.answered()[0] - answered
        server, balancer, caller = (one / calls for one in spent)
        costs = Costs(caller, balancer, max(server - batch - row, 0.0), batch, row, variation)
        return Calibration(costs, cores, *_picture(self._artifact))

    @contextlib.contextmanager
    def _edge(self, servers: int) -> Iterator[tuple[Fleet, Envoy]]:
        run = self._folder / f"run-{time.monotonic_ns()}"
        with contextlib.ExitStack() as stack:
            fleet = stack.enter_context(Fleet(self._repository, run, servers, *FLAGS))
            fleets = {"stable": fleet.addresses}
            configuration = Configuration(run / "envoy", fleets, self._certificate)
            # A hedge would need the time of answers, which is what is asked for.
            configuration.set_hedge(30.0)
            edge = stack.enter_context(envoy(self._program, configuration, "--concurrency", "2"))
            yield fleet, edge

    def _load(self, edge: Envoy, callers: int, seconds: float) -> list[float]:
        return latencies(
            edge.address, CLASSIFY, self._request, concurrency=callers, seconds=seconds, tls=True
        )

    def _network(self) -> tuple[float, float, tuple[float, ...], float]:
        """Seconds of a batch and of each of its rows, how they vary, and what two cores do."""
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        session = ort.InferenceSession(
            self._version / MODEL_FILE, options, providers=["CPUExecutionProvider"]
        )
        found = {rows: self._times(session, rows) for rows in _ROWS}
        medians = {rows: statistics.median(times) for rows, times in found.items()}
        row, batch = np.polyfit(list(medians), list(medians.values()), 1)
        variation = tuple(one / medians[rows] for rows, times in found.items() for one in times)
        together: list[float] = []
        threads = [
            threading.Thread(target=lambda: together.extend(self._times(session, 4)))
            for _ in range(os.cpu_count() or 1)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        cores = len(threads) * medians[4] / statistics.median(together)
        return max(float(batch), 0.0), float(row), variation, cores

    def _times(self, session: ort.InferenceSession, rows: int) -> list[float]:
        images = np.zeros((rows, *_SHAPE), np.uint8)
        times = []
        for _ in range(_REPEATS + 1):
            # Of the thread, which computes alone: others on the machine do not count.
            begun = time.thread_time()
            session.run(None, {IMAGE.name: images})
            times.append(time.thread_time() - begun)
        return times[1:]


@contextlib.contextmanager
def bench(folder: Path, program: Path) -> Iterator[Bench]:
    """The network to measure with."""
    with repository_of_one(Path("runs/bench/repository"), ARCHITECTURE) as repository:
        yield Bench(folder, repository, program)


def _processor_seconds(fleet: Fleet, edge: Envoy) -> tuple[float, float, float]:
    """What the server, Envoy and the load generators of the past have used."""
    times = psutil.Process(edge.process.pid).cpu_times()
    own = resource.getrusage(resource.RUSAGE_CHILDREN)
    return fleet[0].cpu_seconds(), times.user + times.system, own.ru_utime + own.ru_stime


def _picture(artifact: Artifact) -> tuple[int, float]:
    """Bytes of a JPEG, and the processor time of making it the network's input."""
    picture = NoisePictures(2, 3, max(_PICTURE_SIZE)).picture(15).resize(_PICTURE_SIZE)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=90)
    times = []
    for _ in range(_REPEATS):
        begun = time.thread_time()
        prepare_image(decode_image(buffer.getvalue()), artifact.manifest.preprocessing)
        times.append(time.thread_time() - begun)
    return len(buffer.getvalue()), statistics.median(times)
