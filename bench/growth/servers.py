"""How a server grows: with its workers, with its models, and what it takes to become ready."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.growth.curve import Column, Curve, middle
from bench.growth.requests import LENET, closed_loop
from bench.networks import publish_network
from convd.runtime.cores import available_cores
from testbed.server import server_process
from testbed.variants import write_variant

_ROUNDS = 3
_MODELS = (1, 2, 5, 10, 20, 50, 100, 200)
_STARTED = ("lenet5", "resnet18", "resnet50")
_MEBIBYTE = 2**20

_BARE = """
import sys, time
import numpy as np
import onnxruntime as ort
began = time.perf_counter()
session = ort.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
image = session.get_inputs()[0]
session.run(None, {image.name: np.zeros((1, *image.shape[1:]), np.uint8)})
"""


def workers(repository: Path, folder: Path, seconds: float) -> Curve:
    """Throughput and latency by the number of workers."""
    counts = range(1, available_cores() + 1)
    name = publish_network(repository, LENET)
    loads = []
    for count in counts:
        flags = ("--models", name, "--workers", count)
        with server_process(repository, folder / "workers.log", *flags) as server:
            loads.append([closed_loop(server, name, 64, seconds) for _ in range(_ROUNDS)])
    return Curve(
        "workers",
        "Workers",
        "workers",
        list(counts),
        [
            Column("answered per second", [middle([one.rate for one in each]) for each in loads]),
            Column("p99, ms", [middle([one.p99_ms for one in each]) for each in loads]),
        ],
        [
            (
                "from 1",
                "each worker has an interpreter of its own, which is what one process lacks for a "
                "network this small; the client needs a part of a core too",
            )
        ],
        "LeNet-5, one prepared picture per request, 64 callers, h2load.",
    )


def models(repository: Path, folder: Path) -> Curve:
    """Time to ready and memory by the number of models, each with weights of its own."""
    publish_network(repository, LENET)
    many = folder / "many"
    for number in range(_MODELS[-1]):
        version = many / f"lenet-{number:03}" / "1"
        if not version.exists():
            write_variant(repository / LENET / "1", version, number)
    ready, resident = [], []
    for count in _MODELS:
        names = ",".join(f"lenet-{number:03}" for number in range(count))
        began = time.perf_counter()
        with server_process(many, folder / "models.log", "--models", names) as server:
            ready.append(time.perf_counter() - began)
            resident.append(server.resident_bytes() / _MEBIBYTE)
    return Curve(
        "models",
        "Models",
        "models",
        _MODELS,
        [
            Column("start to ready, s", ready, is_cost=True),
            Column("resident, MiB", resident, is_cost=True),
            Column(
                "MiB for each further model",
                [resident[0]]
                + [
                    max(resident[place] - resident[place - 1], 0.0)
                    / (_MODELS[place] - _MODELS[place - 1])
                    for place in range(1, len(_MODELS))
                ],
            ),
        ],
        [
            (
                "up to 20",
                "the interpreter, gRPC and the process that rehearses networks start once",
            ),
            (
                "from 50",
                "each model costs its own load, self-test and warm-up; its memory is its session, "
                "the arena that holds the activations of its largest batch, and gaps in the heap",
            ),
        ],
        "LeNet-5 with 200 different sets of weights; a server is started for each row.",
    )


def starts(repository: Path, folder: Path) -> str:
    """A section: time to ready, against the time of a bare session and its first run."""
    lines = []
    for architecture in _STARTED:
        name = publish_network(repository, architecture)
        with _only(repository, name) as alone:
            served, bare = [], []
            for _ in range(_ROUNDS):
                began = time.perf_counter()
                with server_process(alone, folder / "start.log"):
                    served.append(time.perf_counter() - began)
                model = alone / name / "1" / "model.onnx"
                began = time.perf_counter()
                subprocess.run([sys.executable, "-c", _BARE, model], check=True)
                bare.append(time.perf_counter() - began)
        over = middle([one - other for one, other in zip(served, bare, strict=True)])
        lines.append(f"| {architecture} | {middle(served):.1f} | {middle(bare):.1f} | {over:.1f} |")
    return "\n".join(
        [
            "## Start to ready",
            "",
            f"Seconds from the start of the process; medians of {_ROUNDS} rounds in turns. Bare: a "
            "process that imports ONNX Runtime, loads the network and runs it once.",
            "",
            "| Network | convd | bare | over it |",
            "| --- | --- | --- | --- |",
            *lines,
        ]
    )


@contextmanager
def _only(repository: Path, name: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=repository.parent) as folder:
        shutil.copytree(repository / name, Path(folder) / name, copy_function=os.link)
        yield Path(folder).absolute()
