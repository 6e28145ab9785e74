"""Verifies and measures convd on a machine with an NVIDIA GPU; writes a page of docs/."""

import argparse
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from prometheus_client import CollectorRegistry, Metric

from bench.document import table, write_document
from bench.gpu_rates import CONCURRENCY, RUN, images_of, served_rates, session_rates
from bench.h2load import check_installed
from bench.machine import machine
from bench.networks import publish_network
from convd.artifact.bundle import MODEL_FILE, Artifact
from convd.artifact.precision import Precision
from convd.export.options import ExportPrecision
from convd.runtime.choice import ProvenSession, prove_session
from convd.runtime.cpu import CPU
from convd.runtime.cuda import CUDA
from convd.runtime.errors import SessionError
from convd.runtime.provider import ExecutionProvider
from convd.runtime.session import Session
from convd.service.metrics.gpu import register_gpu_metrics

DOCUMENT = Path("docs/drills/gpu.md")
NETWORKS: tuple[tuple[str, ExportPrecision], ...] = (
    ("lenet5", "float32"),
    ("resnet50", "float32"),
    ("resnet50", "float16"),
)
MAX_BATCH_SIZE = 32
CALLERS = 4
MEMORY_LIMIT_BYTES = 2 * 1024**3
MEMORY_OUTSIDE_BYTES = 512 * 1024**2
"""For what no limit counts: the handles, workspaces and kernels of cuDNN and cuBLAS."""
_COLD_FACTOR = 3.0
_MIB = 1024**2


@dataclass(frozen=True)
class Check:
    """What was checked, what was seen with its bound, and whether it was within the bound."""

    what: str
    seen: str
    right: bool


class Gpu:
    """The first GPU, as the server's metrics show it.

    Attributes:
        name: Its model.
    """

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        if not register_gpu_metrics(self._registry):
            raise SystemExit("the metrics see no GPU: does nvidia-smi? Is nvidia-ml-py installed?")
        self.name = self._memory().samples[0].labels["name"]

    def used_bytes(self) -> float:
        """Memory in use by all processes."""
        return self._memory().samples[0].value

    def _memory(self) -> Metric:
        return next(
            family
            for family in self._registry.collect()
            if family.name == "convd_gpu_memory_used_bytes"
        )


def main() -> None:
    """Check answers, buckets and memory on the GPU, and measure; exit 1 if anything is wrong."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seconds", type=float, default=0.5)
    seconds = options.parse_args().seconds
    reason = CUDA.why_missing()
    if reason is not None:
        raise SystemExit(f"there is nothing to check here: {reason}")
    check_installed()
    gpu = Gpu()
    before = machine(gpu.name)
    checks: list[Check] = []
    rates: list[tuple[object, ...]] = []
    best: dict[str, float] = {}
    for architecture, precision in NETWORKS:
        name = publish_network(RUN / "repository", architecture, precision)
        artifact = Artifact.open(RUN / "repository" / name / "1")
        used_before = gpu.used_bytes()
        session = _check(checks, name, artifact)
        # The first network pays for CUDA itself, too.
        if best:
            checks.append(_check_memory(name, gpu.used_bytes() - used_before))
        measured = session_rates(artifact, session, seconds)
        del session
        best[name] = max(plain for _, plain, *_ in measured)
        rates += [(name, rows, *(f"{rate:.0f}" for rate in three)) for rows, *three in measured]
    served = served_rates(best, MAX_BATCH_SIZE, seconds)
    _write(before, checks, rates, served)
    if not all(check.right for check in checks):
        raise SystemExit(1)


def _check(checks: list[Check], name: str, artifact: Artifact) -> Session:
    """Prove an artifact on the GPU and check how its session behaves."""
    try:
        proven = prove_session(artifact, partial(_load, artifact.manifest.precision), wanted="cuda")
    except SessionError as error:
        raise SystemExit(f"CUDA is installed and cannot be used: {error}") from error
    found = [
        _check_golden(name, artifact, proven),
        _check_buckets(name, artifact, proven.session),
        _check_no_search(name, artifact, proven.session),
    ]
    print(*(f"{check.what}: {check.seen}" for check in found), sep="\n", flush=True)
    checks += found
    return proven.session


def _load(precision: Precision, model: bytes, provider: ExecutionProvider) -> Session:
    return Session(
        model,
        provider,
        precision=precision,
        max_batch_size=MAX_BATCH_SIZE,
        gpu_memory_limit_bytes=MEMORY_LIMIT_BYTES,
    )


def _tolerance(artifact: Artifact) -> float:
    precision = CUDA.computes_in(artifact.manifest.precision)
    return artifact.manifest.golden_tolerance(CUDA.name, precision) or 0.0


def _check_golden(name: str, artifact: Artifact, proven: ProvenSession) -> Check:
    difference, tolerance = proven.golden_difference, _tolerance(artifact)
    return Check(
        f"{name}: largest difference of a golden probability",
        f"{difference:.1e}, at most {tolerance:.0e}",
        difference <= tolerance,
    )


def _check_buckets(name: str, artifact: Artifact, session: Session) -> Check:
    """Every number of rows, padded or not, alone or beside others, answers as the CPU does."""
    reference = Session(artifact.read(MODEL_FILE), CPU)
    images = images_of(artifact, 2 * MAX_BATCH_SIZE)
    expected = reference.run(images).probabilities
    tolerance = _tolerance(artifact)
    # Other pictures in every call, so that what a buffer held before cannot pass for an answer.
    parts = [
        slice(start, start + rows)
        for start in range(0, MAX_BATCH_SIZE, MAX_BATCH_SIZE // 4)
        for rows in range(1, MAX_BATCH_SIZE + 1)
    ]
    with ThreadPoolExecutor(CALLERS) as threads:
        answers = list(threads.map(lambda part: session.run(images[part]).probabilities, parts))
    difference = max(
        float(np.abs(answer - expected[part]).max())
        for part, answer in zip(parts, answers, strict=True)
    )
    return Check(
        f"{name}: largest difference from the CPU, 1 to {MAX_BATCH_SIZE} rows, {CALLERS} callers",
        f"{difference:.1e}, at most {tolerance:.0e}",
        difference <= tolerance,
    )


def _check_no_search(name: str, artifact: Artifact, session: Session) -> Check:
    """After the warm-up no number of rows is slow the first time it comes."""
    images = images_of(artifact, MAX_BATCH_SIZE)
    for rows in session.buckets:
        session.run(images[:rows])
        session.run(images[:rows])
    counts = range(1, MAX_BATCH_SIZE + 1)
    first = {rows: _seconds(partial(session.run, images[:rows])) for rows in counts}
    again = {rows: _seconds(partial(session.run, images[:rows])) for rows in counts}
    worst = max(first[rows] / again[rows] for rows in counts)
    return Check(
        f"{name}: slowest first call of a size, to its second",
        f"{worst:.1f} times, at most {_COLD_FACTOR:g}",
        worst <= _COLD_FACTOR,
    )


def _check_memory(name: str, grown_bytes: float) -> Check:
    bound_bytes = MEMORY_LIMIT_BYTES + MEMORY_OUTSIDE_BYTES
    return Check(
        f"{name}: memory that the session took on the GPU",
        f"{grown_bytes / _MIB:.0f} MiB, at most {bound_bytes / _MIB:.0f}",
        grown_bytes <= bound_bytes,
    )


def _seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def _write(
    before: str,
    checks: list[Check],
    rates: list[tuple[object, ...]],
    served: list[tuple[object, ...]],
) -> None:
    write_document(
        DOCUMENT,
        "CUDA",
        before,
        f"`make gpu-check`: random weights, at most {MAX_BATCH_SIZE} rows in a batch, at most "
        f"{MEMORY_LIMIT_BYTES // _MIB} MiB for a session. float32 is computed without "
        "TensorFloat-32.",
        table(
            ["Check", "Seen", "Right"],
            [(one.what, one.seen, "yes" if one.right else "**no**") for one in checks],
        ),
        "## Sessions",
        "An ordinary call gives ONNX Runtime NumPy arrays of exactly that many rows. A lane is "
        "what convd runs: page-locked buffers bound once, so that the copies of one batch overlap "
        "the computation of the other.",
        table(
            ["Model", "Rows", "Ordinary call, images/s", "One lane", "Two lanes"],
            rates,
        ),
        "## Over gRPC",
        f"`convd serve` on the same machine, {CONCURRENCY} callers (h2load) with one image a "
        "request; the share is of the ordinary call's best rate above. Where it is small, the "
        "server's processes and not the GPU set the rate.",
        table(
            ["Model", "Request", "Workers", "Mean batch, rows", "Images/s", "Share"],
            [
                (model, kind, workers, f"{batch:.1f}", f"{rate:.0f}", f"{share:.2f}")
                for model, kind, workers, batch, rate, share in served
            ],
        ),
    )


if __name__ == "__main__":
    main()
