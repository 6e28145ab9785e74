"""How fast a GPU answers: through its sessions, and through a server over gRPC."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from io import BytesIO
from pathlib import Path

import numpy as np

from bench.h2load import CLASSIFY, load, mean_batch_rows, write_request
from bench.networks import NoisePictures, repository_of_one
from convd.artifact.bundle import MODEL_FILE, Artifact
from convd.artifact.graph_contract import IMAGE
from convd.commands.load_generator import random_requests
from convd.export.options import ExportPrecision
from convd.protos.convd.v1 import classification_pb2 as pb
from convd.runtime.cuda import CUDA
from convd.runtime.session import Session, open_session
from testbed.server import server_process

RUN = Path("runs/bench")
CONCURRENCY = 128
"""Enough for two batches of 32 on the GPU and as many in the queue."""
SERVED: tuple[tuple[str, ExportPrecision, str, int], ...] = (
    ("resnet50", "float32", "tensor", 1),
    ("resnet50", "float32", "JPEG", 1),
    ("resnet50", "float16", "tensor", 1),
    ("resnet50", "float16", "tensor", 4),
    ("resnet50", "float16", "JPEG", 4),
    ("lenet5", "float32", "tensor", 1),
    ("lenet5", "float32", "tensor", 4),
)
"""Architecture, precision, what a request holds, worker processes."""
_JPEG_SIDE = 500


def images_of(artifact: Artifact, rows: int) -> np.ndarray:
    """Random prepared images, uint8 `[rows, height, width, channels]`."""
    shape = (rows, *artifact.manifest.preprocessing.output_shape)
    return np.random.default_rng(rows).integers(0, 256, shape, dtype=np.uint8)


def session_rates(
    artifact: Artifact, session: Session, seconds: float
) -> list[tuple[int, float, float, float]]:
    """Images per second of each bucket.

    Args:
        artifact: The artifact.
        session: Its session on the GPU, with two lanes.
        seconds: For how long each is measured.

    Returns:
        Rows of a batch; images per second of an ordinary call with NumPy arrays, of one lane, and
        of two that overlap.
    """
    model, precision = artifact.read(MODEL_FILE), artifact.manifest.precision
    ordinary = open_session(model, CUDA, precision=precision)
    rates = []
    for rows in session.buckets:
        images = images_of(artifact, rows)
        calls: list[tuple[Callable[[], object], int]] = [
            (partial(ordinary.run, None, {IMAGE.name: images}), 1),
            (partial(session.run, images), 1),
            (partial(session.run, images), 2),
        ]
        plain, one, two = (
            rows * _calls_per_second(call, callers, seconds) for call, callers in calls
        )
        rates.append((rows, plain, one, two))
    return rates


def served_rates(
    best: dict[str, float], max_batch_size: int, seconds: float
) -> list[tuple[object, ...]]:
    """Images per second through `convd serve`, one in a request.

    Args:
        best: Images per second of the bare session at its best batch size, by model.
        max_batch_size: Maximum rows of a batch.
        seconds: For how long each is measured.

    Returns:
        Model, what a request holds, worker processes, images per second, the share of `best`.
    """
    measured: list[tuple[object, ...]] = []
    for architecture, precision, kind, workers in SERVED:
        with repository_of_one(RUN / "repository", architecture, precision) as repository:
            (model,) = (path.name for path in repository.iterdir())
            artifact = Artifact.open(repository / model / "1")
            request = write_request(
                RUN / f"{model}.{kind}.request", _message(artifact, model, kind)
            )
            log = RUN / f"gpu-{model}-{kind}-{workers}.log"
            flags = ["--provider", "cuda", "--max-batch-size", max_batch_size]
            flags += ["--workers", workers]
            with server_process(repository, log, *flags) as server:
                rate = load(
                    server.address, CLASSIFY, request, concurrency=CONCURRENCY, seconds=seconds
                ).requests_per_second
                batch = mean_batch_rows(server)
        measured.append((model, kind, workers, batch, rate, rate / best[model]))
        print(f"{model}, {kind}, {workers} workers: {rate:.0f} images/s", flush=True)
    return measured


def _message(artifact: Artifact, model: str, kind: str) -> bytes:
    if kind == "tensor":
        shape = artifact.manifest.preprocessing.output_shape
        return random_requests(model, shape)[0].SerializeToString()
    file = BytesIO()
    NoisePictures(1, 3, _JPEG_SIDE).picture(8).save(file, "JPEG", quality=90)
    return pb.ClassifyRequest(
        model=pb.ModelSpec(name=model), images=[pb.Image(encoded=file.getvalue())], top_k=5
    ).SerializeToString()


def _calls_per_second(call: Callable[[], object], callers: int, seconds: float) -> float:
    call()
    began = time.perf_counter()

    def work() -> int:
        count = 0
        while time.perf_counter() - began < seconds:
            call()
            count += 1
        return count

    with ThreadPoolExecutor(callers) as threads:
        counts = [future.result() for future in [threads.submit(work) for _ in range(callers)]]
    return sum(counts) / (time.perf_counter() - began)
