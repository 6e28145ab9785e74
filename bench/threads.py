"""Three models of different sizes at once: are there ever more busy threads than cores?"""

import argparse
import json
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.document import table, write_document
from bench.machine import machine
from bench.networks import publish_network
from convd.runtime.cores import CoreBudget, available_cores
from convd.runtime.session import ENGINE_THREAD
from convd.service.application import Application
from convd.service.settings_sources import load_settings

RUN = Path("runs/bench")
DOCUMENT = Path("docs/drills/threads.md")
MODELS = {"lenet5": 8, "resnet18": 8, "resnet50": 8}
"""The models, and the callers of each."""

_UNLIMITED = 1_000_000
_PAUSE_SECONDS = 0.002
_START_SECONDS = 120.0


@dataclass(frozen=True)
class Outcome:
    """What one run has shown.

    Attributes:
        samples: Moments by the number of threads that were computing.
        images_per_second: Of each model.
        p99_seconds: Of each model.
    """

    samples: Counter[int]
    images_per_second: dict[str, float]
    p99_seconds: dict[str, float]


def main() -> None:
    """Load three models with and without the shared budget; exit 1 if the cores were exceeded."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seconds", type=float, default=20.0)
    seconds = options.parse_args().seconds
    before = machine()
    repository = RUN / "repository"
    for model in MODELS:
        publish_network(repository, model)
    cores = available_cores()
    shared = _run(repository, cores, seconds)
    # Each session has the same threads, and so many cores to share that none ever waits.
    alone = _run(repository, _UNLIMITED, seconds)
    both = (shared, alone)
    exceeded = sum(count for busy, count in shared.samples.items() if busy > cores)
    kept = exceeded == 0
    most = max(max(shared.samples), max(alone.samples))
    write_document(
        DOCUMENT,
        "Threads of several models",
        before,
        f"`make drills-load`: {', '.join(MODELS)} in one server, each with its own callers "
        f"({', '.join(map(str, MODELS.values()))}), {seconds:.0f} s, {cores} cores. Every "
        f"{_PAUSE_SECONDS * 1e3:.0f} ms the threads that compute are counted: those of ONNX "
        "Runtime's pools that the kernel calls running, and those that have called it. Budget: a "
        "batch waits for its cores, as in convd. None: each session runs whenever it likes.",
        f"Moments with more busy threads than cores, with the budget: {exceeded}: "
        f"{'kept' if kept else '**missed**'}.",
        table(
            ["Busy threads", "Budget: share of moments", "None: share of moments"],
            [
                (
                    busy,
                    *(f"{one.samples[busy] / one.samples.total():.1%}" for one in both),
                )
                for busy in range(most + 1)
            ],
        ),
        table(
            ["Model", "Budget: images/s", "None: images/s", "Budget: p99 ms", "None: p99 ms"],
            [
                (
                    model,
                    *(f"{one.images_per_second[model]:.0f}" for one in both),
                    *(f"{one.p99_seconds[model] * 1e3:.0f}" for one in both),
                )
                for model in MODELS
            ],
        ),
    )
    if not kept:
        raise SystemExit(1)


def _run(repository: Path, cores: int, seconds: float) -> Outcome:
    settings = load_settings(
        {
            "repository": repository,
            "grpc_port": 0,
            "http_port": 0,
            "provider": "cpu",
            "max_batch_size": 8,
            "intra_op_threads": available_cores(),
        }
    )
    application = Application(settings, cores=cores)
    application.start()
    try:
        began = time.monotonic()
        while application.unready_reason():
            if time.monotonic() - began > _START_SECONDS:
                raise SystemExit(f"not ready: {application.unready_reason()}")
            time.sleep(0.1)
        stop = threading.Event()
        samples: Counter[int] = Counter()
        sampler = threading.Thread(target=_sample, args=(application.cores, samples, stop))
        sampler.start()
        reports = _load_all(f"127.0.0.1:{application.grpc_port}", seconds)
        stop.set()
        sampler.join()
    finally:
        application.drain()
    return Outcome(
        samples,
        {model: report["images_per_second"] for model, report in reports.items()},
        {model: report["latency_seconds"]["99.0"] for model, report in reports.items()},
    )


def _load_all(server: str, seconds: float) -> dict[str, Any]:
    """Load every model at the same time, from processes of their own."""
    command = [sys.executable, "-m", "convd", "bench", "--json", "--server", server]
    command += ["--duration-seconds", str(seconds)]
    clients = {
        model: subprocess.Popen(
            [*command, "--model", model, "--concurrency", str(callers)], stdout=subprocess.PIPE
        )
        for model, callers in MODELS.items()
    }
    return {
        model: json.loads(client.communicate(timeout=seconds + 120)[0])
        for model, client in clients.items()
    }


def _sample(cores: CoreBudget, samples: Counter[int], stop: threading.Event) -> None:
    """Count the threads that compute, until told to stop."""
    while not stop.wait(_PAUSE_SECONDS):
        running = cores.running
        busy = sum(_is_running(task) for task in _engine_threads())
        # A batch that began or ended meanwhile would be counted with the threads of another.
        if cores.running == running:
            samples[running + busy] += 1


def _engine_threads() -> list[Path]:
    return [
        task
        for task in Path("/proc/self/task").iterdir()
        if _read(task / "comm").strip() == ENGINE_THREAD
    ]


def _is_running(task: Path) -> bool:
    return _read(task / "stat").rpartition(")")[2].split()[:1] == ["R"]


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        # The thread has ended.
        return ""


if __name__ == "__main__":
    main()
