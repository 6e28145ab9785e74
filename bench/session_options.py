"""Which threads, spinning and arena serve best: sessions that differ in one option, in turn."""

import argparse
import statistics
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
import onnxruntime as ort

from bench.document import table, write_document
from bench.machine import machine
from bench.networks import publish_network
from convd.artifact.bundle import MODEL_FILE
from convd.artifact.graph_contract import IMAGE
from convd.runtime.cores import available_cores

RUN = Path("runs/bench")
DOCUMENT = Path("docs/drills/session-options.md")
BATCH_SIZES = {"lenet5": (1, 32), "resnet50": (1, 8)}
IMAGE_SHAPES = {"lenet5": (32, 32, 1), "resnet50": (224, 224, 3)}

_SPINNING = "session.intra_op.allow_spinning"
_STOP = "session.force_spinning_stop"
_SECONDS = 1.0


def main() -> None:
    """Measure, and write a table."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=5)
    rounds = options.parse_args().rounds
    before = machine()
    rows = []
    for model, batch_sizes in BATCH_SIZES.items():
        publish_network(RUN / "repository", model)
        sessions = _sessions((RUN / "repository" / model / "1" / MODEL_FILE).read_bytes())
        for size in batch_sizes:
            images = np.random.default_rng(0).integers(
                0, 256, (size, *IMAGE_SHAPES[model]), dtype=np.uint8
            )
            measured = defaultdict(list)
            for _ in range(rounds):
                for name, session in sessions.items():
                    measured[name].append(_measure(session, images))
            for name, results in measured.items():
                rate, cpu_seconds = (
                    statistics.median(column) for column in zip(*results, strict=True)
                )
                rows.append((model, size, name, f"{rate:.0f}", f"{cpu_seconds * 1e3:.3f}"))
    write_document(
        DOCUMENT,
        "Options of a session",
        before,
        f"`python -m bench.session_options`: medians of {rounds} rounds, the sessions in "
        "turn, on the CPU provider.",
        table(["Model", "Rows", "Session", "Images/s", "CPU ms per image"], rows),
    )


def _sessions(model: bytes) -> dict[str, ort.InferenceSession]:
    cores = available_cores()
    return {
        "ONNX Runtime's defaults": _session(model, cores, {}),
        "no spinning": _session(model, cores, {_SPINNING: "0"}),
        "spinning that stops with the run": _session(model, cores, {_STOP: "1"}),
        "no spinning, no arena": _session(model, cores, {_SPINNING: "0"}, arena=False),
        "one thread": _session(model, 1, {}),
    }


def _session(
    model: bytes, threads: int, entries: dict[str, str], *, arena: bool = True
) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = arena
    for key, value in entries.items():
        options.add_session_config_entry(key, value)
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _measure(session: ort.InferenceSession, images: np.ndarray) -> tuple[float, float]:
    """Images per second, and processor seconds of one image."""
    session.run(None, {IMAGE.name: images})
    began, cpu_began, count = time.perf_counter(), time.process_time(), 0
    while time.perf_counter() - began < _SECONDS:
        session.run(None, {IMAGE.name: images})
        count += len(images)
    return count / (time.perf_counter() - began), (time.process_time() - cpu_began) / count


if __name__ == "__main__":
    main()
