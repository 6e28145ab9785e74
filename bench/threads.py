"""Three models of different sizes at once: what each gets of the cores, and how busy they are."""

import argparse
import threading
import time
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from bench.document import table, write_document
from bench.h2load import INFER, check_installed, latencies
from bench.machine import machine
from bench.networks import publish_network
from bench.performance import infer_request
from convd.runtime.cores import CoreBudget, available_cores
from convd.runtime.session import ENGINE_THREAD
from convd.service.application import Application
from convd.service.settings_sources import load_settings

RUN = Path("runs/bench")
DOCUMENT = Path("docs/drills/threads.md")
MODELS = {"lenet5": 8, "resnet18": 8, "resnet50": 8}
"""The models, and the callers of each."""

SMALL = "lenet5"
LEAST_OF_SMALL = 0.6
LEAST_OF_LARGE = 0.9
MOST_P99_SECONDS = 0.06
MOST_EXCEEDED = 0.05

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
        longest_batch_seconds: Of each model, an upper bound: the histogram's bucket.
    """

    samples: Counter[int]
    images_per_second: dict[str, float]
    p99_seconds: dict[str, float]
    longest_batch_seconds: dict[str, float]


def main() -> None:
    """Load three models with and without the shared budget; exit 1 if a bound is missed."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seconds", type=float, default=20.0)
    seconds = options.parse_args().seconds
    check_installed()
    before = machine()
    repository = RUN / "repository"
    for model in MODELS:
        publish_network(repository, model)
    cores = available_cores()
    shared = _run(repository, cores, seconds)
    large = {model: callers for model, callers in MODELS.items() if model != SMALL}
    without_small = _run(repository, cores, seconds, large)
    # Each session has the same threads, and so many cores to share that none ever waits.
    unlimited = _run(repository, _UNLIMITED, seconds)

    def of_large(outcome: Outcome) -> float:
        return sum(outcome.images_per_second[model] for model in large)

    exceeded = sum(count for busy, count in shared.samples.items() if busy > cores)
    longest_seconds = max(without_small.longest_batch_seconds.values())
    bounds = [
        (
            f"{SMALL}'s rate, as a share of that without a budget",
            f"{shared.images_per_second[SMALL] / unlimited.images_per_second[SMALL]:.2f}",
            f"at least {LEAST_OF_SMALL}",
            shared.images_per_second[SMALL] >= LEAST_OF_SMALL * unlimited.images_per_second[SMALL],
        ),
        (
            f"{SMALL}'s p99",
            f"{shared.p99_seconds[SMALL] * 1e3:.0f} ms",
            f"at most {MOST_P99_SECONDS * 1e3:.0f} ms, or twice the others' longest batch "
            f"({longest_seconds * 1e3:.0f} ms)",
            shared.p99_seconds[SMALL] <= max(MOST_P99_SECONDS, 2 * longest_seconds),
        ),
        (
            f"the others' rate together, as a share of that without {SMALL}",
            f"{of_large(shared) / of_large(without_small):.2f}",
            f"at least {LEAST_OF_LARGE}",
            of_large(shared) >= LEAST_OF_LARGE * of_large(without_small),
        ),
        (
            "moments with more busy threads than cores",
            f"{exceeded / shared.samples.total():.1%}",
            f"at most {MOST_EXCEEDED:.0%}",
            exceeded <= MOST_EXCEEDED * shared.samples.total(),
        ),
    ]
    runs = {"Budget": shared, f"Budget, no {SMALL}": without_small, "None": unlimited}
    most = max(max(run.samples) for run in runs.values())
    write_document(
        DOCUMENT,
        "Threads of several models",
        before,
        f"`make drills-load`: {', '.join(MODELS)} in one server, each with its own callers "
        f"({', '.join(map(str, MODELS.values()))}), {seconds:.0f} s, {cores} cores. Every "
        f"{_PAUSE_SECONDS * 1e3:.0f} ms the threads that compute are counted: those of ONNX "
        "Runtime's pools that the kernel calls running, and those that have called it. Budget: "
        "cores go to the model that has had the least computing time, as in convd. None: each "
        "session runs whenever it likes.",
        table(
            ["What", "Seen", "Bound", "Kept"],
            [(*bound, "yes" if kept else "**no**") for *bound, kept in bounds],
        ),
        table(
            ["Busy threads", *(f"{name}: share of moments" for name in runs)],
            [
                (busy, *(f"{run.samples[busy] / run.samples.total():.1%}" for run in runs.values()))
                for busy in range(most + 1)
            ],
        ),
        table(
            ["Model", *(f"{name}: images/s, p99 ms" for name in runs)],
            [
                (
                    model,
                    *(
                        f"{run.images_per_second[model]:.0f}, {run.p99_seconds[model] * 1e3:.0f}"
                        if model in run.p99_seconds
                        else ""
                        for run in runs.values()
                    ),
                )
                for model in MODELS
            ],
        ),
    )
    if not all(kept for *_, kept in bounds):
        raise SystemExit(1)


def _run(
    repository: Path, cores: int, seconds: float, models: Mapping[str, int] = MODELS
) -> Outcome:
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
        loads = _load_all(f"127.0.0.1:{application.grpc_port}", seconds, models)
        stop.set()
        sampler.join()
        longest = _longest_batches(application)
    finally:
        application.drain()
    return Outcome(
        samples,
        {model: rate for model, (rate, _) in loads.items()},
        {model: p99 for model, (_, p99) in loads.items()},
        longest,
    )


def _longest_batches(application: Application) -> dict[str, float]:
    """The upper bound of the last bucket that a batch of each model fell into."""
    longest: dict[str, float] = {}
    for family in application.registry.collect():
        if family.name != "convd_batch_duration_seconds":
            continue
        counts: dict[str, float] = {}
        for sample in family.samples:
            if sample.name.endswith("_bucket"):
                model = sample.labels["model"]
                if sample.value > counts.get(model, 0.0):
                    counts[model] = sample.value
                    longest[model] = float(sample.labels["le"])
    return longest


def _load_all(
    server: str, seconds: float, models: Mapping[str, int]
) -> dict[str, tuple[float, float]]:
    """Images per second and p99 in seconds of each model, all loaded at the same time."""
    requests = {model: infer_request(model) for model in models}

    def load(model: str) -> tuple[float, float]:
        seen = latencies(server, INFER, requests[model], concurrency=models[model], seconds=seconds)
        return len(seen) / seconds, seen[int(0.99 * len(seen))]

    with ThreadPoolExecutor(len(models)) as pool:
        return dict(zip(models, pool.map(load, models), strict=True))


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
