"""What int8 costs and gains: `make quantization`; writes docs/quantization.md.

Networks that read digits, before and after, on this processor and without its newest instructions.
"""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from bench.document import table, write_document
from bench.machine import machine
from bench.networks import publish_network
from bench.quantization.networks import (
    MAX_ACCURACY_DROP,
    RUN,
    Published,
    train_and_publish,
    with_other_weights,
)
from bench.quantization.processors import Processor, kinds
from bench.quantization.rates import BATCH_SIZES
from convd.artifact.bundle import MODEL_FILE
from convd.export.activation_ranges import RANGE_METHODS

PAGE = Path("docs/quantization.md")
NETWORKS = {"resnet18": 64, "lenet5": 32, "googlenet": 64}
EPOCHS = 4
FLOAT32, INT8 = "float32", "int8 of 7 bits"
MAX_DIFFERENCE = 1e-6


@dataclass(frozen=True)
class Measured:
    """What one kind of processor does with the variants of a network.

    Attributes:
        processor: The kind.
        rates: Pictures per second of each variant, by batch size.
        threads: Threads of each variant.
        answers: Probabilities of each variant, float32 `[pictures, classes]`.
    """

    processor: Processor
    rates: dict[str, list[float]]
    threads: dict[str, int]
    answers: dict[str, NDArray[np.float32]]

    def ratio(self, name: str, index: int) -> float:
        """How many times as fast as float32."""
        return self.rates[name][index] / self.rates[FLOAT32][index]


def main() -> None:
    """Train, export, measure, write the page, and fail where the promise is not kept."""
    where = machine()
    published = {name: train_and_publish(name, size, EPOCHS) for name, size in NETWORKS.items()}
    network = published["resnet18"]
    served, weights = _variants(network)
    measured = [_measure(processor, served) for processor in kinds()]
    on_one_thread = [_measure(one.processor, weights, threads=1) for one in measured]
    write_document(
        PAGE,
        "What int8 costs and gains",
        where,
        "Networks trained for "
        f"{EPOCHS} epochs on scikit-learn's digits; static QDQ quantisation on the CPU provider, "
        "activations in uint8, one scale per channel of the weights. `make quantization` writes "
        "this page. Rates are the best of several rounds in turns.",
        *_speed(measured),
        *_weights(on_one_thread, network.truth),
        *_ranges(published),
    )
    _check(measured, network)


def _variants(network: Published) -> tuple[Path, Path]:
    """A folder with what is published, and one with what might have been as well."""
    served, weights = RUN / "served", RUN / "weights"
    for folder in (served, weights):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        shutil.copy(network.float32, folder / f"{FLOAT32}.onnx")
        shutil.copy(network.int8, folder / f"{INT8}.onnx")
        np.save(folder / "images.npy", network.images)
    for name, model in with_other_weights(network).items():
        onnx.save(model, weights / f"{name}.onnx")
    return served, weights


def _measure(processor: Processor, folder: Path, threads: int = 0) -> Measured:
    command = [sys.executable, "-m", "bench.quantization.rates", str(folder), str(threads)]
    subprocess.run(command, check=True, env=processor.environment())
    found = json.loads((folder / "rates.json").read_text())
    answers = {name: np.load(folder / f"{name}.npy") for name in found["rates"]}
    return Measured(processor, found["rates"], found["threads"], answers)


def _speed(measured: list[Measured]) -> list[str]:
    rows = [
        (
            one.processor.name,
            size,
            f"{one.rates[FLOAT32][index]:,.0f}",
            f"{one.rates[INT8][index]:,.0f}",
            f"{one.ratio(INT8, index):.2f}",
        )
        for one in measured
        for index, size in enumerate(BATCH_SIZES)
    ]
    return [
        "## Speed",
        table(
            ["ResNet-18, 64 x 64", "batch", "float32, images/s", "int8, images/s", "ratio"], rows
        ),
        "The rows without an instruction are measured on the same processor, at its full speed: "
        "`bench/quantization/processors.py` makes a copy of ONNX Runtime in which the check for "
        "the instruction fails, so that the kernels for older processors run, for float32 as for "
        "int8. " + _threads(measured),
    ]


def _threads(measured: list[Measured]) -> str:
    used = [f"{one.threads[FLOAT32]} and {one.threads[INT8]}" for one in measured]
    return f"Threads of float32 and int8, as loading chose them: {'; '.join(used)}."


def _weights(measured: list[Measured], truth: NDArray[np.int64]) -> list[str]:
    reference = measured[0].answers
    rows = [
        (
            name,
            one.processor.name,
            f"{np.mean(one.answers[name].argmax(axis=1) == truth):.2%}",
            f"{np.abs(one.answers[name] - one.answers[FLOAT32]).max():.3f}",
            f"{np.abs(one.answers[name] - reference[name]).max():.1g}",
            ", ".join(f"{one.ratio(name, index):.2f}" for index in range(len(BATCH_SIZES))),
        )
        for name in (INT8, "int8 of 8 bits", "uint8 of 8 bits")
        for one in measured
    ]
    float32 = np.mean(reference[FLOAT32].argmax(axis=1) == truth)
    sizes = ", ".join(map(str, BATCH_SIZES))
    return [
        "## Weights",
        f"Accuracy in float32: {float32:.2%} of {len(truth)} held-out digits.",
        table(
            [
                "weights",
                "processor",
                "accuracy",
                "largest change of a probability",
                f"difference from {measured[0].processor.name}",
                f"on one thread, times as fast as float32 in batches of {sizes}",
            ],
            rows,
        ),
        "Without VNNI, processors add two products of uint8 and int8 in 16 bits, where weights "
        "of 8 bits saturate; weights of 7 bits cannot, and give the same answers bit for bit. "
        "Unsigned weights of 8 bits do too, and round less, but have no fast kernel. So convd "
        "publishes weights of 7 bits. `make test-int8` runs the tests of int8 on an emulated "
        "processor without VNNI.",
    ]


def _ranges(published: dict[str, Published]) -> list[str]:
    rows = []
    for name, network in published.items():
        report = network.report
        rows.append(
            (
                f"{name}, {NETWORKS[name]} x {NETWORKS[name]}",
                *(f"{report.signal_to_noise_db[method]:.1f}" for method in RANGE_METHODS),
                report.range_method,
                f"{report.top1_before:.2%}",
                f"{report.top1_after:.2%}",
                f"{network.float32.stat().st_size / 1e6:.1f} -> "
                f"{network.int8.stat().st_size / 1e6:.1f}",
            )
        )
    return [
        "## Ranges of the activations",
        table(
            [
                "network",
                *(f"{method}, dB" for method in RANGE_METHODS),
                "published",
                "float32 accuracy",
                "int8 accuracy",
                "file, MB",
            ],
            rows,
        ),
        "Signal to noise of the logits, on training pictures that the ranges were not measured on. "
        "Each export tries the three methods and publishes the best; the card says which. "
        + _cost(),
    ]


def _cost() -> str:
    name = publish_network(RUN / "repository", "resnet50")
    model = RUN / "repository" / name / "1" / MODEL_FILE
    command = [sys.executable, "-m", "bench.quantization.cost", str(model)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ)
    found = json.loads(done.stdout.splitlines()[-1])
    return (
        f"For a ResNet-50 on pictures of 224 x 224 all of it, with 256 + 128 pictures, takes "
        f"{found['seconds']:.0f} s and at most {found['bytes'] / 1e6:,.0f} MB of memory, the "
        "weights of four networks included."
    )


def _check(measured: list[Measured], network: Published) -> None:
    """Exit where a promise is not kept."""
    accuracy = {
        name: np.mean(measured[0].answers[name].argmax(axis=1) == network.truth)
        for name in (FLOAT32, INT8)
    }
    broken = []
    for one in measured:
        found = np.mean(one.answers[INT8].argmax(axis=1) == network.truth)
        if found < accuracy[FLOAT32] - MAX_ACCURACY_DROP:
            broken.append(f"{one.processor.name}: accuracy {found:.2%}")
        if np.abs(one.answers[INT8] - measured[0].answers[INT8]).max() > MAX_DIFFERENCE:
            broken.append(f"{one.processor.name}: other answers")
        slowest = min(one.ratio(INT8, index) for index in range(len(BATCH_SIZES)))
        if slowest < one.processor.least_speedup:
            broken.append(f"{one.processor.name}: {slowest:.2f} times as fast as float32")
    if broken:
        sys.exit("the promise is not kept: " + "; ".join(broken))


if __name__ == "__main__":
    main()
