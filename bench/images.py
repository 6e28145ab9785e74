"""A JPEG of 640 x 427 over gRPC, against decoding, resizing and the bare network, each alone.

The limit is what the cores would give if nothing were lost between the steps: one over the sum of
what each step takes per picture when it has all cores to itself. The bare network is ONNX Runtime
with its own defaults, at its best batch size. All of them take turns, and ratios are medians over
the rounds.
"""

import argparse
import io
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnxruntime as ort
from PIL import Image
from sklearn.datasets import load_sample_images

from bench.document import table, write_document
from bench.h2load import CLASSIFY, check_installed, latencies, load, mean_batch_rows, write_request
from bench.image_steps import alternatives
from bench.machine import machine
from bench.networks import repository_of_one
from bench.rounds import in_turn
from convd.artifact.bundle import MODEL_FILE
from convd.artifact.decoding import decode_image
from convd.artifact.graph_contract import IMAGE
from convd.artifact.preprocessing import prepare_image
from convd.artifact.repository import ModelRepository
from convd.protos.convd.v1 import classification_pb2 as pb
from convd.runtime.buckets import batch_buckets
from convd.runtime.cores import available_cores
from convd.service.allocator import return_large_blocks
from testbed.server import ServerProcess, server_process

RUN = Path("runs/bench")
DOCUMENT = Path("docs/performance-images.md")
NETWORKS = {"resnet18": "ResNet-18", "resnet50": "ResNet-50"}
CONCURRENCY = 16
CROWD = 64
MAX_BATCH_SIZE = 32
LEAST_RATE = 0.90
MOST_LATENCY = 1.10
_QUALITY = 90


@dataclass
class Rounds:
    """What was seen of one network, a value for each round.

    Attributes:
        decode: Pictures per second of decoding alone, on all cores.
        prepare: The same of resizing and cropping.
        infer: The same of the bare network.
        served: The same of convd.
        crowded: The same of convd with more callers.
        lone_parts: Seconds of decoding, preparing and one bare run, one after the other.
        lone: Median seconds of a lone request.
        notes: What else was seen.
    """

    decode: list[float] = field(default_factory=list)
    prepare: list[float] = field(default_factory=list)
    infer: list[float] = field(default_factory=list)
    served: list[float] = field(default_factory=list)
    crowded: list[float] = field(default_factory=list)
    lone_parts: list[float] = field(default_factory=list)
    lone: list[float] = field(default_factory=list)
    notes: str = ""

    @property
    def limits(self) -> list[float]:
        """Pictures per second that the three steps would give together."""
        steps = zip(self.decode, self.prepare, self.infer, strict=True)
        return [1 / sum(1 / rate for rate in rates) for rates in steps]

    @property
    def rate_ratio(self) -> float:
        """Median share of the limit."""
        return self._share(self.served)

    @property
    def crowded_ratio(self) -> float:
        """The same with more callers."""
        return self._share(self.crowded)

    @property
    def latency_ratio(self) -> float:
        """Median multiple of the parts' time that a lone request takes."""
        return statistics.median(
            lone / parts for lone, parts in zip(self.lone, self.lone_parts, strict=True)
        )

    def _share(self, rates: list[float]) -> float:
        return statistics.median(
            rate / limit for rate, limit in zip(rates, self.limits, strict=True)
        )


def main() -> None:
    """Measure, and write the document; exit 1 if a bound is missed."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=7)
    options.add_argument("--seconds", type=float, default=3.0)
    options.add_argument("--only", choices=list(NETWORKS))
    options.add_argument("--report", type=Path, default=DOCUMENT)
    chosen = options.parse_args()
    check_installed()
    before = machine()
    # The parts are measured as fast as they can be: with the allocator as a server sets it.
    return_large_blocks()
    data = jpeg_of(photograph())
    seen = {
        name: _measure(name, data, chosen.rounds, chosen.seconds)
        for name in NETWORKS
        if chosen.only in (None, name)
    }
    _write(chosen.report, before, seen, chosen.rounds, chosen.seconds)
    if not all(
        one.rate_ratio >= LEAST_RATE and one.latency_ratio <= MOST_LATENCY for one in seen.values()
    ):
        raise SystemExit(1)


def photograph() -> Image.Image:
    """scikit-learn's photograph of a Chinese temple: 640 x 427 pixels."""
    return Image.fromarray(load_sample_images().images[0])


def jpeg_of(picture: Image.Image) -> bytes:
    """The picture as a camera's JPEG, about 100 kB for 640 x 427 pixels."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=_QUALITY)
    return buffer.getvalue()


def _measure(name: str, data: bytes, rounds: int, seconds: float) -> Rounds:
    seen = Rounds()
    with repository_of_one(RUN / "repository", name) as repository:
        artifact = ModelRepository(repository).open_version(name, 1)
        recipe = artifact.manifest.preprocessing
        options = ort.SessionOptions()
        options.intra_op_num_threads = available_cores()
        session = ort.InferenceSession(
            artifact.read(MODEL_FILE), options, providers=["CPUExecutionProvider"]
        )
        picture = decode_image(data)
        image = prepare_image(picture, recipe)
        steps: dict[str, Callable[[], object]] = {
            "decode": lambda: decode_image(data),
            "prepare": lambda: prepare_image(picture, recipe),
        }

        def run(rows: int, for_seconds: float) -> float:
            feed = {IMAGE.name: np.repeat(image[np.newaxis], rows, axis=0)}
            return rows * _rate(lambda: session.run(None, feed), for_seconds)

        best = max(batch_buckets(MAX_BATCH_SIZE), key=lambda rows: run(rows, seconds / 3))
        message = pb.ClassifyRequest(model=pb.ModelSpec(name=name), top_k=5)
        message.images.add(encoded=data)
        request = write_request(RUN / f"{name}.jpeg", message.SerializeToString())
        flags = ("--provider", "cpu", "--max-batch-size", MAX_BATCH_SIZE)
        with server_process(repository, RUN / f"bench-images-{name}.log", *flags) as server:
            for number in range(rounds):
                turns: list[Callable[[], None]] = [
                    lambda: seen.decode.append(_parallel_rate(steps["decode"], seconds / 3)),
                    lambda: seen.prepare.append(_parallel_rate(steps["prepare"], seconds / 3)),
                    lambda: seen.infer.append(run(best, seconds)),
                    lambda: seen.served.append(_served(server, request, CONCURRENCY, seconds)),
                    lambda: seen.crowded.append(_served(server, request, CROWD, seconds)),
                    lambda: seen.lone_parts.append(
                        sum(_median_seconds(step, seconds / 9) for step in steps.values())
                        + _median_seconds(
                            lambda: session.run(None, {IMAGE.name: image[np.newaxis]}), seconds / 3
                        )
                    ),
                    lambda: seen.lone.append(_lone(server, request, seconds)),
                ]
                for turn in in_turn(turns, number):
                    turn()
            seen.notes = (
                f"the bare network's best batch: {best} rows; convd's mean batch: "
                f"{mean_batch_rows(server):.1f} rows"
            )
    return seen


def _rate(step: Callable[[], object], seconds: float) -> float:
    """Calls per second of something that does nothing else."""
    step()
    began = time.perf_counter()
    calls = 0
    while (elapsed := time.perf_counter() - began) < seconds:
        step()
        calls += 1
    return calls / elapsed


def _parallel_rate(step: Callable[[], object], seconds: float) -> float:
    """Calls per second in a thread for each core."""
    cores = available_cores()
    with ThreadPoolExecutor(cores) as pool:
        return sum(pool.map(lambda _: _rate(step, seconds), range(cores)))


def _median_seconds(step: Callable[[], object], seconds: float) -> float:
    step()
    times = []
    began = time.perf_counter()
    while time.perf_counter() - began < seconds:
        started = time.perf_counter()
        step()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def _served(server: ServerProcess, request: Path, concurrency: int, seconds: float) -> float:
    return load(
        server.address, CLASSIFY, request, concurrency=concurrency, seconds=seconds
    ).requests_per_second


def _lone(server: ServerProcess, request: Path, seconds: float) -> float:
    return statistics.median(latencies(server.address, CLASSIFY, request, seconds=seconds))


def _write(report: Path, before: str, seen: dict[str, Rounds], rounds: int, seconds: float) -> None:
    rows = []
    for name, one in seen.items():
        rates = (one.decode, one.prepare, one.infer, one.limits, one.served)
        rows.append(
            (
                NETWORKS[name],
                *(f"{statistics.median(rate):.1f}" for rate in rates),
                f"{one.rate_ratio:.2f}",
                "yes" if one.rate_ratio >= LEAST_RATE else "**no**",
                f"{one.crowded_ratio:.2f}",
            )
        )
    lone = [
        (
            NETWORKS[name],
            f"{statistics.median(one.lone_parts) * 1000:.1f}",
            f"{statistics.median(one.lone) * 1000:.1f}",
            f"{one.latency_ratio:.2f}",
            "yes" if one.latency_ratio <= MOST_LATENCY else "**no**",
        )
        for name, one in seen.items()
    ]
    notes = "; ".join(f"{NETWORKS[name]}: {one.notes}" for name, one in seen.items())
    write_document(
        report,
        "Performance of the image path",
        before,
        f"`make bench-images`: a JPEG of 640 x 427 pixels over gRPC, on the CPU provider. {rounds} "
        f"rounds of {seconds:g} s, in which everything takes its turn, every second round in "
        "reverse order; figures and ratios are medians over the rounds. The client is h2load, the "
        "networks' weights are random.",
        "## Throughput",
        f"Pictures per second; convd at concurrency {CONCURRENCY}. The limit is one over the sum "
        "of what the steps take per picture when each has all cores alone. The bound is "
        f"{LEAST_RATE:.2f} of it.",
        table(
            [
                *(
                    "Network",
                    "Decode",
                    "Prepare",
                    "Bare network",
                    "Limit",
                    "convd",
                    "Ratio",
                    "Kept",
                ),
                f"Ratio at {CROWD}",
            ],
            rows,
        ),
        f"{notes}. With {CROWD} callers four times as many pictures wait to be decoded: a share "
        "that stays says that decoding leaves the network its cores.",
        "## A lone caller",
        "Median milliseconds. The parts: decoding, preparing and one run of the bare network, each "
        f"alone. The bound is {MOST_LATENCY:.2f} times their sum.",
        table(["Network", "Parts", "convd", "Ratio", "Kept"], lone),
        "## What would shorten the path",
        *alternatives(photograph()),
    )


if __name__ == "__main__":
    main()
