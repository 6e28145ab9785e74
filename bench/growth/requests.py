"""How the cost of a request grows: with classes, with the picture, with its batch, with callers."""

import io
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from bench.growth.curve import Column, Curve, middle
from bench.growth.graphs import SIDE, publish_classes
from bench.h2load import CLASSIFY, latencies, write_request
from bench.networks import publish_network
from convd.client.connection import Connection
from convd.commands.load_generator import OK, Workload, random_requests, run_workload
from convd.commands.load_report import LoadReport, summarize
from convd.protos.convd.v1 import classification_pb2 as pb
from testbed.server import ServerProcess, server_process

LENET, LENET_SHAPE = "lenet5", (32, 32, 1)
_ROUNDS = 3
_SIDES = (32, 64, 128, 256, 512, 1024, 2048, 4096, 8000)
_CLASSES = (10, 100, 1000, 5000, 10_000, 22_000)
_CLIENT_BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_CALLERS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


def classes(repository: Path, log: Path, seconds: float) -> Curve:
    """A lone caller's request by the number of classes, with five of them answered and with all."""
    names = [publish_classes(repository, count) for count in _CLASSES]
    with server_process(repository, log) as server:
        five, every = (
            _in_turns(
                server,
                [random_requests(name, (SIDE, SIDE, 3))[0] for name in names],
                seconds,
                top_k=top_k,
            )
            for top_k in (5, 0)
        )
    return Curve(
        "classes",
        "Classes",
        "classes",
        _CLASSES,
        [
            Column("top_k 5: p50, ms", _p50_ms(five), is_cost=True),
            Column("all classes: p50, ms", _p50_ms(every), is_cost=True),
        ],
        [
            (
                "top_k 5, above 1,000",
                "the call no longer hides what is done for every class: the network's last layer "
                "and softmax, and finding the five largest",
            ),
            (
                "all classes, above 100",
                "every class is a message of its own with its label, made, sent and read; where "
                "labels are known, the tensor of the Open Inference Protocol has none",
            ),
        ],
        "A mean of the channels and one linear layer, one prepared picture, a lone caller.",
    )


def sides(repository: Path, log: Path, seconds: float) -> Curve:
    """A lone caller's JPEG by its side."""
    (name,) = [publish_classes(repository, _CLASSES[0])]
    requests = [_encoded(name, side) for side in _SIDES]
    with server_process(repository, log, "--models", name) as server:
        p50 = _p50_ms(_in_turns(server, requests, seconds))
    return Curve(
        "sides",
        "Side of the picture",
        "side, pixels",
        _SIDES,
        [
            Column("p50, ms", p50),
            Column(
                "p50, ns per pixel",
                [taken * 1e6 / side**2 for taken, side in zip(p50, _SIDES, strict=True)],
            ),
        ],
        [
            ("up to 128", "the call itself costs more than the picture"),
            ("from 256", "decoding and resizing read every pixel: four times for twice the side"),
            (
                "above 1,180",
                "pixels take more than 4 MiB, which go back to the system after the picture, so "
                "that memory stays flat; handing out new pages costs almost as much as decoding",
            ),
            (
                "above 8,192",
                "more than --max-image-pixels: such a picture is refused before it is decoded",
            ),
        ],
        "A smooth JPEG, decoded and resized to 32 x 32, a lone caller.",
    )


def client_batches(repository: Path, log: Path, seconds: float) -> Curve:
    """A lone caller's request by its pictures."""
    name = publish_network(repository, LENET)
    requests = [random_requests(name, LENET_SHAPE, rows=[count])[0] for count in _CLIENT_BATCHES]
    with server_process(repository, log, "--models", name) as server:
        reports = _in_turns(server, requests, seconds)
    return Curve(
        "client-batches",
        "Pictures in a request",
        "pictures",
        _CLIENT_BATCHES,
        [
            Column("p50, ms", _p50_ms(reports), is_cost=True),
            Column(
                "pictures per second",
                [middle([one.images_per_second for one in each]) for each in reports],
            ),
        ],
        [
            ("up to 16", "the call's own cost is shared by more pictures"),
            (
                "above 32",
                "a request of more than --max-batch-size pictures runs as several batches; each "
                "picture still costs its message, its row and its five classes",
            ),
        ],
        "LeNet-5, prepared pictures, a lone caller.",
    )


def callers(repository: Path, log: Path, seconds: float) -> Curve:
    """Throughput and latency by the number of callers, each on a connection of its own."""
    name = publish_network(repository, LENET)
    with server_process(repository, log, "--models", name) as server:
        loads = [
            [closed_loop(server, name, count, seconds) for _ in range(_ROUNDS)]
            for count in _CALLERS
        ]
    return Curve(
        "callers",
        "Callers at a time",
        "callers",
        _CALLERS,
        [
            Column("answered per second", [middle([one.rate for one in each]) for each in loads]),
            Column("p99, ms", [middle([one.p99_ms for one in each]) for each in loads]),
            Column("answered, %", [middle([one.answered for one in each]) for each in loads]),
        ],
        [
            ("up to 16", "batches grow, and the cores have less idle time between two requests"),
            (
                "from 64",
                "--unary-threads (64) are in progress; the calls of more callers wait, unread, for "
                "a thread, and each further caller only adds to everyone's wait",
            ),
        ],
        "LeNet-5, one prepared picture per request, h2load with a connection for each caller. p99 "
        "is that of all requests, refused ones too.",
    )


@dataclass(frozen=True)
class ClosedLoop:
    """What a load of h2load came to.

    Attributes:
        rate: Requests answered in a second.
        p99_ms: The time that 99 of 100 requests kept, refused ones too.
        answered: How many of 100 were answered.
    """

    rate: float
    p99_ms: float
    answered: float


def closed_loop(server: ServerProcess, model: str, callers: int, seconds: float) -> ClosedLoop:
    """Load LeNet with h2load, in a closed loop."""
    message = random_requests(model, LENET_SHAPE)[0].SerializeToString()
    request = write_request(server.log.with_suffix(".request"), message)
    before = _by_code(server)
    began = time.perf_counter()
    taken = latencies(server.address, CLASSIFY, request, concurrency=callers, seconds=seconds)
    elapsed = time.perf_counter() - began
    counted = {code: count - before.get(code, 0.0) for code, count in _by_code(server).items()}
    good = counted.get(OK, 0.0)
    return ClosedLoop(
        good / elapsed, float(np.percentile(taken, 99)) * 1e3, 100 * good / sum(counted.values())
    )


def _by_code(server: ServerProcess) -> dict[str, float]:
    """Requests by status; those that h2load broke off at its end do not count."""
    found: dict[str, float] = {}
    for labels, count in server.counted("convd_requests_total").items():
        code = re.search('code="([A-Z_]+)"', labels)
        if code and "Classify" in labels and code[1] != "CANCELLED":
            found[code[1]] = found.get(code[1], 0.0) + count
    return found


def _in_turns(
    server: ServerProcess, requests: Sequence[pb.ClassifyRequest], seconds: float, *, top_k: int = 5
) -> list[list[LoadReport]]:
    """Reports of a lone caller, by request; the rounds go through all of them."""
    reports: list[list[LoadReport]] = [[] for _ in requests]
    for request in requests:
        request.top_k = top_k
    for _ in range(_ROUNDS):
        for place, request in enumerate(requests):
            reports[place].append(_ask(server, request, seconds))
    return reports


def _ask(server: ServerProcess, request: pb.ClassifyRequest, seconds: float) -> LoadReport:
    workload = Workload(
        Connection(server.address), [request], seconds, concurrency=1, connections=1
    )
    report = summarize(run_workload(workload))
    if set(report.codes) != {OK}:
        raise SystemExit(f"requests were refused: {report.codes}")
    return report


def _encoded(model: str, side: int) -> pb.ClassifyRequest:
    """A request with a JPEG whose colours change slowly, as a photograph's do."""
    cells = np.random.default_rng(side).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    picture = Image.fromarray(cells).resize((side, side), Image.Resampling.BICUBIC)
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=90)
    return pb.ClassifyRequest(
        model=pb.ModelSpec(name=model), images=[pb.Image(encoded=file.getvalue())]
    )


def _p50_ms(reports: Sequence[Sequence[LoadReport]]) -> list[float]:
    return [middle([report.latency_seconds[50.0] * 1e3 for report in rounds]) for rounds in reports]
