"""How near convd comes to what its engine and its transport can do, in alternating rounds."""

import argparse
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort

from bench.document import table, write_document
from bench.h2load import (
    CLASSIFY,
    INFER,
    check_installed,
    latencies,
    load,
    mean_batch_rows,
    write_request,
)
from bench.machine import machine
from bench.networks import repository_of_one
from bench.profile import profile_server
from bench.rounds import in_turn
from bench.yardstick import yardstick
from convd.artifact.bundle import MODEL_FILE
from convd.artifact.graph_contract import IMAGE
from convd.commands.load_generator import random_requests
from convd.protos.inference import grpc_service_pb2 as pb
from convd.runtime.buckets import batch_buckets
from convd.runtime.cores import available_cores
from convd.runtime.cpu import CPU
from convd.runtime.openvino import OPENVINO, OPENVINO_BFLOAT16
from convd.runtime.provider import ExecutionProvider
from convd.runtime.session import open_session
from testbed.server import ServerProcess, server_process

RUN = Path("runs/bench")
DOCUMENT = Path("docs/performance.md")
RESNET, LENET = "resnet50", "lenet5"
IMAGE_SHAPES = {RESNET: (224, 224, 3), LENET: (32, 32, 1), "resnet18": (224, 224, 3)}
CONCURRENCY = 16
MAX_BATCH_SIZE = 32
SESSION_BOUNDS = {"cpu": 0.97, "openvino": 0.75}
LENET_BOUNDS = {1: {"runner": 0.80}, 16: {"runner": 0.85, "echo": 0.62}, 64: {"runner": 0.80}}
"""Least share of each yardstick's rate, by concurrency."""
MOST_LATENCY = 1.05
"""Median latency of a lone request, as a multiple of the bare session's and the echo's together."""
YARDSTICKS = {"runner": "a minimal runner", "echo": "a bare echo"}


@dataclass(frozen=True)
class Comparison:
    """Rounds of convd and of what it is measured against.

    Attributes:
        what: What was compared.
        against: What convd is measured against.
        limits: Requests per second of that, one for each round.
        rates: Requests per second of convd.
        bound: The least ratio.
        notes: What else was seen.
        profile: Where the server's time went, as a table.
    """

    what: str
    against: str
    limits: list[float]
    rates: list[float]
    bound: float
    notes: str
    profile: str

    @property
    def ratio(self) -> float:
        """Median over the rounds of convd's rate as a share of the other's."""
        return statistics.median(
            rate / limit for rate, limit in zip(self.rates, self.limits, strict=True)
        )

    @property
    def kept(self) -> bool:
        """Whether the bound was kept."""
        return self.ratio >= self.bound


def main() -> None:
    """Run every comparison and write the document; exit 1 if a bound is missed."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=9)
    options.add_argument("--seconds", type=float, default=2.0)
    options.add_argument("--only", choices=["cpu", "openvino", "latency", "lenet"])
    options.add_argument("--report", type=Path, default=DOCUMENT)
    chosen = options.parse_args()
    check_installed()
    before = machine()
    comparisons, missing = [], []
    if chosen.only in (None, "cpu"):
        comparisons.append(_compare_session("cpu", CPU, chosen.rounds, chosen.seconds))
    if chosen.only in (None, "openvino"):
        openvino = next((p for p in (OPENVINO_BFLOAT16, OPENVINO) if not p.why_missing()), None)
        if openvino is None:
            missing.append(f"Not measured: {OPENVINO}, since {OPENVINO.why_missing()}.")
        else:
            comparisons.append(
                _compare_session("openvino", openvino, chosen.rounds, chosen.seconds)
            )
    if chosen.only in (None, "latency"):
        comparisons.append(_compare_latency(chosen.rounds, chosen.seconds))
    if chosen.only in (None, "lenet"):
        comparisons += _compare_lenet(chosen.rounds, chosen.seconds)
    _write(chosen.report, before, comparisons, missing, chosen.rounds, chosen.seconds)
    if not all(comparison.kept for comparison in comparisons):
        raise SystemExit(1)


def _compare_session(
    name: str, provider: ExecutionProvider, rounds: int, seconds: float
) -> Comparison:
    """ResNet-50 over gRPC against the bare session at its best batch size."""
    images = np.random.default_rng(0).integers(
        0, 256, (MAX_BATCH_SIZE, *IMAGE_SHAPES[RESNET]), dtype=np.uint8
    )
    limits, rates = [], []
    with repository_of_one(RUN / "repository", RESNET) as repository:
        model = (repository / RESNET / "1" / MODEL_FILE).read_bytes()
        session = _bare_session(model, provider)
        best = max(batch_buckets(MAX_BATCH_SIZE), key=lambda rows: _rate(session, images[:rows], 1))
        request = _request(RESNET)
        flags = ("--provider", name, "--max-batch-size", MAX_BATCH_SIZE)
        with server_process(repository, RUN / f"bench-{name}.log", *flags) as server:
            for number in range(rounds):
                # Every second round in the reverse order, so that a machine that slows down does
                # so for both.
                if number % 2:
                    rates.append(_load(server, request, seconds))
                limits.append(_rate(session, images[:best], seconds))
                if not number % 2:
                    rates.append(_load(server, request, seconds))
            notes = f"the bare session's best batch: {best}; {_mean_batch(server)}"
            with profile_server(server, RUN / f"bench-{name}.stacks", seconds) as profile:
                _load(server, request, seconds)
    what = f"ResNet-50, uint8 tensors over gRPC, concurrency {CONCURRENCY}, {provider}"
    return Comparison(
        what, "the bare session", limits, rates, SESSION_BOUNDS[name], notes, profile.table()
    )


def _compare_latency(rounds: int, seconds: float) -> Comparison:
    """A lone caller of ResNet-50 against the bare session and an echo of the same request."""
    images = np.zeros((1, *IMAGE_SHAPES[RESNET]), np.uint8)
    request = infer_request(RESNET)
    limits, rates = [], []
    with repository_of_one(RUN / "repository", RESNET) as repository:
        model = repository / RESNET / "1" / MODEL_FILE
        session = _bare_session(model.read_bytes(), CPU)
        with (
            yardstick("echo", model, RUN / "bench-echo.log") as echo,
            server_process(repository, RUN / "bench-latency.log", "--provider", "cpu") as server,
        ):
            for number in range(rounds):
                measured: dict[str, float] = {}
                for name in in_turn(("session", "echo", "convd"), number):
                    if name == "session":
                        measured[name] = _session_latency(session, images, seconds)
                    else:
                        which = echo if name == "echo" else server
                        seen = latencies(which.address, INFER, request, seconds=seconds)
                        measured[name] = statistics.median(seen)
                rates.append(1 / measured["convd"])
                limits.append(1 / (measured["session"] + measured["echo"]))
            notes = _mean_batch(server)
    return Comparison(
        "ResNet-50, a lone caller, 1 / median latency",
        "the bare session and an echo, one after the other",
        limits,
        rates,
        1 / MOST_LATENCY,
        notes,
        "",
    )


def _compare_lenet(rounds: int, seconds: float) -> list[Comparison]:
    """LeNet on one core against minimal servers on the same core; the client has the others."""
    cores = set(range(available_cores()))
    pinned = {0}
    client_cores = (cores - pinned) or pinned
    request = infer_request(LENET)
    comparisons = []
    with repository_of_one(RUN / "repository", LENET) as repository:
        model = repository / LENET / "1" / MODEL_FILE
        log = RUN / "bench-lenet.log"
        with (
            yardstick("echo", model, RUN / "bench-echo.log", cores=pinned) as echo,
            yardstick("runner", model, RUN / "bench-runner.log", cores=pinned) as runner,
            server_process(repository, log, "--provider", "cpu", cores=pinned) as server,
        ):
            servers = {"echo": echo, "runner": runner, "convd": server}
            for concurrency, bounds in LENET_BOUNDS.items():
                rates: dict[str, list[float]] = {name: [] for name in servers}
                for number in range(rounds):
                    for name in in_turn(servers, number):
                        rates[name].append(
                            load(
                                servers[name].address,
                                INFER,
                                request,
                                concurrency=concurrency,
                                seconds=seconds,
                                cores=client_cores,
                            ).requests_per_second
                        )
                what = f"LeNet-5, one 32x32 tensor, concurrency {concurrency}, on one core"
                comparisons += [
                    Comparison(
                        what,
                        YARDSTICKS[name],
                        rates[name],
                        rates["convd"],
                        bound,
                        _mean_batch(server),
                        "",
                    )
                    for name, bound in bounds.items()
                ]
    return comparisons


def _bare_session(model: bytes, provider: ExecutionProvider) -> ort.InferenceSession:
    """What somebody would use without convd: ONNX Runtime's own defaults, on all cores."""
    if provider != CPU:
        return open_session(model, provider)
    options = ort.SessionOptions()
    options.intra_op_num_threads = available_cores()
    return ort.InferenceSession(model, options, providers=[provider.name])


def _rate(session: ort.InferenceSession, images: np.ndarray, seconds: float) -> float:
    """Images per second of a session that does nothing else."""
    session.run(None, {IMAGE.name: images})
    began = time.perf_counter()
    runs = 0
    while (elapsed := time.perf_counter() - began) < seconds:
        session.run(None, {IMAGE.name: images})
        runs += 1
    return runs * len(images) / elapsed


def _session_latency(session: ort.InferenceSession, images: np.ndarray, seconds: float) -> float:
    """Median seconds of one run."""
    times = []
    began = time.perf_counter()
    while time.perf_counter() - began < seconds:
        started = time.perf_counter()
        session.run(None, {IMAGE.name: images})
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def _request(model: str) -> Path:
    message = random_requests(model, IMAGE_SHAPES[model])[0]
    return write_request(RUN / f"{model}.request", message.SerializeToString())


def infer_request(model: str) -> Path:
    """A request of the Open Inference Protocol with one raw tensor, as `h2load` sends it."""
    shape = IMAGE_SHAPES[model]
    message = pb.ModelInferRequest(model_name=model)
    message.inputs.add(name="image", datatype="UINT8", shape=[1, *shape])
    message.outputs.add(name="probabilities")
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    message.raw_input_contents.append(pixels.tobytes())
    return write_request(RUN / f"{model}.infer", message.SerializeToString())


def _load(
    server: ServerProcess, request: Path, seconds: float, cores: set[int] | None = None
) -> float:
    return load(
        server.address, CLASSIFY, request, concurrency=CONCURRENCY, seconds=seconds, cores=cores
    ).requests_per_second


def _mean_batch(server: ServerProcess) -> str:
    return f"mean batch {mean_batch_rows(server):.1f} rows"


def _write(
    report: Path,
    before: str,
    comparisons: list[Comparison],
    missing: list[str],
    rounds: int,
    seconds: float,
) -> None:
    rows = [
        (
            one.what,
            f"{statistics.median(one.rates):.1f}",
            f"{statistics.median(one.limits):.1f} ({one.against})",
            f"{one.ratio:.2f}",
            f"{one.bound:.2f}",
            "yes" if one.kept else "**no**",
        )
        for one in comparisons
    ]
    sections = []
    for one in comparisons:
        each = ", ".join(
            f"{rate:.1f} / {limit:.1f}" for rate, limit in zip(one.rates, one.limits, strict=True)
        )
        sections += [
            f"## {one.what}, against {one.against}",
            f"Rounds (convd / {one.against}): {each}. {one.notes}.",
        ]
        if one.profile:
            sections.append(one.profile)
    write_document(
        report,
        "Performance",
        before,
        f"`make bench`: {rounds} rounds of {seconds:.0f} s, convd and what it is measured against "
        "in turn, every second round in reverse order; ratios are medians over the rounds. The "
        "client is h2load, the weights are random. A minimal runner: a queue and one thread behind "
        "the same gRPC, which reads metadata, deadline and cancellation of each call. A bare echo: "
        "the same gRPC with a constant answer. Both are in `bench/yardstick.py`.",
        table(["What", "convd, 1/s", "Against, 1/s", "Ratio", "At least", "Kept"], rows),
        *missing,
        *sections,
    )


if __name__ == "__main__":
    main()
