"""`make export-sweep`: every architecture, and two that are not convd's, on every provider.

Each network gets random weights and is exported as a user would export it; then it is compared
with PyTorch at batch sizes from 1 to 64 on each execution provider that is here. Writes a page of
docs/.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort
import torch

from bench.machine import machine
from bench.networks import settle
from convd.artifact.bundle import MODEL_FILE, Artifact
from convd.artifact.manifest import Normalization, Provenance
from convd.artifact.preprocessing import ImageArray, Preprocessing, ResizeTo, prepare_image
from convd.artifact.repository import ModelRepository
from convd.export.proof.reference import Reference, probabilities_of
from convd.export.proof.sample_pictures import SamplePictures
from convd.export.publication import publish
from convd.export.source import TrainedNetwork
from convd.export.sources.loading import SourceRequest, load_source
from convd.models import create_model
from convd.models.registry import find_architecture
from convd.runtime.provider import ExecutionProvider
from convd.runtime.providers import KNOWN_PROVIDERS, installed_providers
from convd.runtime.session import Session

REPORT = Path("docs/export-sweep.md")
REPOSITORY = ModelRepository(Path("runs/export-sweep"))
BATCH_SIZES = (1, 2, 3, 7, 16, 33, 64)
NETWORKS = (
    "lenet5",
    "alexnet",
    "zfnet",
    "googlenet",
    "vgg16",
    "resnet18",
    "densenet121",
    "torchvision:mobilenet_v3_small:random",
    "timm:resnet10t:random",
)


@dataclass(frozen=True)
class Row:
    """One network on one provider.

    Attributes:
        network: Its name.
        input_size: Height and width of its pictures.
        provider: The provider, and what it computes in.
        probability_difference: Largest difference from PyTorch over all batches.
        top1_agreement: Share of pictures with the same most probable class.
        within_limit: Whether the difference is within the limit of the precision.
    """

    network: str
    input_size: int
    provider: str
    probability_difference: float
    top1_agreement: float
    within_limit: bool


def main() -> None:
    """Export and compare each network in a process of its own, then write the report."""
    if len(sys.argv) > 1:
        print(json.dumps([vars(row) for row in sweep(sys.argv[1])]))
        return
    where = machine()
    rows = []
    for network in NETWORKS:
        # Memory of one network is given back before the next one is built.
        done = subprocess.run(
            [sys.executable, "-m", "bench.export_sweep", network],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
        rows += [Row(**each) for each in json.loads(done.stdout.splitlines()[-1])]
        print(f"{network}: {len(rows)} rows", flush=True)
    REPORT.write_text(_report(where, rows), encoding="utf-8")
    print(REPORT.read_text(encoding="utf-8"))
    if not all(row.within_limit for row in rows):
        raise SystemExit("a network is not within its limit")


def sweep(network: str) -> list[Row]:
    """Export one network and compare it on each provider."""
    torch.manual_seed(0)
    source = _library_network(network) if ":" in network else _own_network(network)
    pictures = [
        prepare_image(source.examples.picture(index), source.preprocessing)
        for index in range(len(source.examples))
    ]
    settle(source, pictures)
    published = publish(source, REPOSITORY, network.replace(":", "-"))
    model = Artifact.open(published.path).read(MODEL_FILE)
    reference = Reference(source.network, source.normalization)
    batches = [_batch(pictures, size) for size in BATCH_SIZES]
    expected = [probabilities_of("logits", reference.outputs(batch)) for batch in batches]
    return [
        _compare(network, source, provider, Session(model, provider), batches, expected)
        for provider in installed_providers()
    ]


def _compare(
    network: str,
    source: TrainedNetwork,
    provider: ExecutionProvider,
    session: Session,
    batches: Sequence[ImageArray],
    expected: Sequence[np.ndarray],
) -> Row:
    difference, agreed = 0.0, 0
    for batch, answer in zip(batches, expected, strict=True):
        probabilities = session.run(batch).probabilities
        difference = max(difference, float(np.abs(probabilities - answer).max()))
        agreed += int((probabilities.argmax(axis=1) == answer.argmax(axis=1)).sum())
    return Row(
        network=network,
        input_size=source.preprocessing.output_size.height,
        provider=str(provider),
        probability_difference=difference,
        top1_agreement=agreed / sum(BATCH_SIZES),
        within_limit=difference <= (provider.tolerances[provider.precision].parity or 1.0),
    )


def _own_network(name: str) -> TrainedNetwork:
    architecture = find_architecture(name)
    size = architecture.input_size
    return TrainedNetwork(
        network=create_model(name, num_classes=1000, in_channels=3),
        labels=tuple(f"class {index}" for index in range(1000)),
        preprocessing=Preprocessing(resize=ResizeTo(height=size, width=size)),
        normalization=Normalization(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
        provenance=Provenance(source=name, architecture=name),
        examples=SamplePictures(),
    )


def _library_network(spec: str) -> TrainedNetwork:
    from tests.models import torchvision_oracle  # noqa: F401  makes torchvision importable

    return load_source(SourceRequest(spec))


def _batch(pictures: Sequence[ImageArray], size: int) -> ImageArray:
    """Real and random pictures in turns."""
    generator = np.random.default_rng(size)
    return np.stack(
        [
            pictures[index // 2 % len(pictures)]
            if index % 2 == 0
            else generator.integers(0, 256, pictures[0].shape, dtype=np.uint8)
            for index in range(size)
        ]
    )


def _report(where: str, rows: Sequence[Row]) -> str:
    lines = [
        "# Every network on every provider",
        "",
        "Made by `make export-sweep`. Each network has random weights, 1,000 "
        "classes and logits of up to 5. It was exported, which proves it on each provider, then "
        f"compared with PyTorch at batches of {', '.join(map(str, BATCH_SIZES))} real and random "
        "pictures. Limits for a probability: 1e-05 on the CPU provider, 1e-04 on others in "
        "float32, 0.1 in bfloat16.",
        "",
        f"Machine: {where} The build of ONNX Runtime is {ort.__version__}.",
        "",
        "| network | pictures | provider | largest difference of a probability | same top-1 | |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {row.network} | {row.input_size} x {row.input_size} | {row.provider} | "
        f"{row.probability_difference:.1e} | {row.top1_agreement:.1%} | "
        f"{'ok' if row.within_limit else 'too far'} |"
        for row in rows
    ]
    absent = [
        f"- {provider}: {reason}"
        for provider in KNOWN_PROVIDERS
        if (reason := provider.why_missing()) is not None
    ]
    if absent:
        lines += ["", "Not on this machine:", "", *absent]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
