"""Verifies and measures convd on a machine with a GPU."""

import argparse
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np

from bench.document import table, write_document
from bench.machine import machine
from bench.networks import publish_network
from convd.artifact.bundle import MODEL_FILE, Artifact
from convd.artifact.graph_contract import IMAGE
from convd.artifact.precision import Precision
from convd.runtime.choice import prove_session
from convd.runtime.cpu import CPU
from convd.runtime.cuda import CUDA
from convd.runtime.errors import SessionError
from convd.runtime.provider import ExecutionProvider
from convd.runtime.session import Session, open_session

RUN = Path("runs/bench")
DOCUMENT = Path("docs/drills/gpu.md")
MODEL = "resnet50"
MAX_BATCH_SIZE = 32
MEMORY_LIMIT_BYTES = 2 * 1024**3
_COLD_FACTOR = 3.0


def main() -> None:
    """Check answers, buckets and memory on the GPU, and measure; exit 1 if anything is wrong."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seconds", type=float, default=3.0)
    seconds = options.parse_args().seconds
    reason = CUDA.why_missing()
    if reason is not None:
        raise SystemExit(f"there is nothing to check here: {reason}")
    before = machine()
    publish_network(RUN / "repository", MODEL)
    artifact = Artifact.open(RUN / "repository" / MODEL / "1")
    try:
        proven = prove_session(artifact, _load, wanted="cuda")
    except SessionError as error:
        raise SystemExit(f"CUDA is installed and cannot be used: {error}") from error
    checks = [
        ("golden difference", f"{proven.golden_difference:.1e}", True),
        _check_buckets(artifact, proven.session),
        _check_no_search(proven.session, artifact),
    ]
    write_document(
        DOCUMENT,
        "CUDA",
        before,
        f"`make gpu-check`: ResNet-50, random weights, at most {MAX_BATCH_SIZE} rows in a batch, "
        f"at most {MEMORY_LIMIT_BYTES // 1024**2} MiB for the session.",
        table(
            ["Check", "Seen", "Right"],
            [(name, seen, "yes" if right else "**no**") for name, seen, right in checks],
        ),
        table(
            ["Rows", "Ordinary call, images/s", "One lane, images/s", "Two lanes, images/s"],
            _rates(artifact, proven.session, seconds),
        ),
    )
    if not all(right for *_, right in checks):
        raise SystemExit(1)


def _load(model: bytes, provider: ExecutionProvider) -> Session:
    return Session(
        model,
        provider,
        max_batch_size=MAX_BATCH_SIZE,
        gpu_memory_limit_bytes=MEMORY_LIMIT_BYTES,
    )


def _check_buckets(artifact: Artifact, session: Session) -> tuple[str, str, bool]:
    """Every number of rows, padded or not, alone or beside others, answers as the CPU does."""
    reference = Session(artifact.read(MODEL_FILE), CPU)
    images = _images(artifact, MAX_BATCH_SIZE)
    expected, _ = reference.run(images)
    precision: Precision = CUDA.computes_in(artifact.manifest.precision)
    tolerance = artifact.manifest.golden_tolerance(CUDA.name, precision) or 0.0
    counts = [*range(1, MAX_BATCH_SIZE + 1)] * 4
    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(lambda rows: session.run(images[:rows])[0], counts))
    difference = max(
        float(np.abs(answer - expected[:rows]).max())
        for rows, answer in zip(counts, answers, strict=True)
    )
    name = f"largest difference from the CPU, 1 to {MAX_BATCH_SIZE} rows, 4 callers"
    return name, f"{difference:.1e}, at most {tolerance:.0e}", difference <= tolerance


def _check_no_search(session: Session, artifact: Artifact) -> tuple[str, str, bool]:
    """After the warm-up no number of rows is slow the first time it comes."""
    images = _images(artifact, MAX_BATCH_SIZE)
    for rows in session.buckets:
        session.run(images[:rows])
        session.run(images[:rows])
    first = {rows: _seconds(partial(session.run, images[:rows])) for rows in range(1, 33)}
    again = {rows: _seconds(partial(session.run, images[:rows])) for rows in range(1, 33)}
    worst = max(first[rows] / again[rows] for rows in first)
    return (
        "slowest first call of a size, to its second",
        f"{worst:.1f} times, at most {_COLD_FACTOR:g}",
        worst <= _COLD_FACTOR,
    )


def _rates(artifact: Artifact, session: Session, seconds: float) -> list[tuple[object, ...]]:
    """Images per second of an ordinary call, of one lane, and of two that overlap."""
    ordinary = open_session(artifact.read(MODEL_FILE), CUDA)
    rows = []
    for size in session.buckets:
        images = _images(artifact, size)
        calls: list[tuple[Callable[[], object], int]] = [
            (partial(ordinary.run, None, {IMAGE.name: images}), 1),
            (partial(session.run, images), 1),
            (partial(session.run, images), 2),
        ]
        rates = [
            f"{size * _calls_per_second(call, callers, seconds):.0f}" for call, callers in calls
        ]
        rows.append((size, *rates))
    return rows


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


def _seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def _images(artifact: Artifact, rows: int) -> np.ndarray:
    shape = (rows, *artifact.manifest.preprocessing.output_shape)
    return np.random.default_rng(rows).integers(0, 256, shape, dtype=np.uint8)


if __name__ == "__main__":
    main()
