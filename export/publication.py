"""Exports a trained network: converts, verifies, and publishes the next version of a model."""

import importlib.metadata
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import torch

from artifact.bundle import MODEL_FILE, Artifact, checksums, write_manifest
from artifact.manifest import Manifest
from artifact.preprocessing import prepare_image
from artifact.repository import ModelRepository
from export.conversion import OPSET, convert
from export.evaluation import evaluate
from export.golden_cases import TOLERANCES, write_golden_cases
from export.graph import ServingGraph
from export.model_card import model_card
from export.parity import check_parity
from export.source import TrainedNetwork
from runtime.providers import CPU
from runtime.session import Session

MODEL_CARD_FILE = "MODEL_CARD.md"
_TOOLS = ("convd", "torch", "onnx", "onnxscript", "onnxruntime")


@dataclass(frozen=True)
class Published:
    """A version that was published.

    Attributes:
        path: Its folder.
        version: Its number.
        manifest: What it promises.
    """

    path: Path
    version: int
    manifest: Manifest


def publish(
    source: TrainedNetwork,
    repository: ModelRepository,
    name: str,
    *,
    report: Callable[[str], None] = lambda _: None,
) -> Published:
    """Publish a network as the next version of a model; nothing is published that is not verified.

    Args:
        source: The network.
        repository: Where to publish.
        name: The model's name.
        report: Told what is being done, for people who wait.

    Raises:
        ExportError: The network cannot be converted, or gives other answers once it is.
        RepositoryError: The name or the repository cannot be used.
    """
    with repository.staging(name) as staging:
        report("preparing the evaluation pictures")
        count = len(source.examples)
        images = [
            prepare_image(source.examples.picture(index), source.preprocessing)
            for index in range(count)
        ]
        targets = [source.examples.target(index) for index in range(count)]
        report("converting to ONNX")
        graph = ServingGraph(source.network, source.normalization).eval()
        model = convert(graph, source.preprocessing, len(source.labels))
        report("comparing ONNX Runtime with PyTorch")
        parity = check_parity(graph, model, images)
        report("measuring accuracy")
        evaluation = evaluate(Session(model, CPU), images, targets, source.examples_name)
        report("writing golden cases and manifest")
        (staging / MODEL_FILE).write_bytes(model)
        write_golden_cases(staging, source, graph)
        manifest = Manifest(
            created_at=datetime.now(UTC),
            labels=source.labels,
            preprocessing=source.preprocessing,
            normalization=source.normalization,
            opset=OPSET,
            provenance=source.provenance.model_copy(update={"tools": _tool_versions()}),
            accuracy=evaluation.accuracy(),
            parity=(parity,),
            baseline=evaluation.baseline(),
            golden_tolerances=TOLERANCES,
            files={},
        )
        (staging / MODEL_CARD_FILE).write_text(model_card(name, manifest), encoding="utf-8")
        manifest = manifest.model_copy(update={"files": checksums(staging)})
        write_manifest(staging, manifest)
        Artifact.open(staging).check_all_files()
        version = repository.publish(name, staging)
        return Published(repository.version_path(name, version), version, manifest)


def _tool_versions() -> dict[str, str]:
    versions = {tool: importlib.metadata.version(tool) for tool in _TOOLS}
    return versions | {"torch": torch.__version__}
