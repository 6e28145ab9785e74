"""Published models whose network is a given ONNX graph: made in milliseconds, without training."""

import datetime
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from PIL import Image

from convd.artifact.bundle import MODEL_FILE, checksums, write_manifest
from convd.artifact.evidence import ParityReport
from convd.artifact.golden import GOLDEN_CASES, GOLDEN_DIRECTORY, GoldenCase, GoldenCases
from convd.artifact.manifest import Manifest, Provenance
from convd.artifact.preprocessing import Preprocessing
from convd.artifact.repository import ModelRepository

PROVIDER = "CPUExecutionProvider"


def publish_network(
    repository: Path,
    name: str,
    network: bytes,
    labels: tuple[str, ...],
    recipe: Preprocessing,
    golden: Sequence[tuple[Image.Image, NDArray[np.floating]]],
    *,
    files: Mapping[str, bytes] | None = None,
    **evidence: Any,  # noqa: ANN401
) -> int:
    """Publish an ONNX graph as the next version of a model.

    Args:
        repository: Where.
        name: The model.
        network: The graph, with the inputs and outputs that an artifact has.
        labels: Its classes.
        recipe: How pictures are prepared for it.
        golden: Pictures, and the probabilities that they must give.
        files: Further files.
        **evidence: Further fields of the manifest.

    Returns:
        The version.
    """
    cases = []
    models = ModelRepository(repository)
    with models.staging(name) as staging:
        (staging / MODEL_FILE).write_bytes(network)
        (staging / GOLDEN_DIRECTORY).mkdir()
        for number, (picture, row) in enumerate(golden):
            image = str(GOLDEN_DIRECTORY / f"{number}.png")
            picture.save(staging / image)
            cases.append(GoldenCase(image=image, probabilities=tuple(map(float, row))))
        for file, data in (files or {}).items():
            (staging / file).write_bytes(data)
        (staging / GOLDEN_CASES).write_text(GoldenCases(cases=tuple(cases)).model_dump_json())
        write_manifest(staging, _manifest(staging, labels, recipe, evidence))
        return models.publish(name, staging)


def mean_network(
    random: np.random.Generator, activation: NodeProto, recipe: Preprocessing, classes: int
) -> bytes:
    """A graph: the mean of each channel, a linear layer, and an activation of `logits`."""
    weights = random.normal(size=(recipe.channels, classes)).astype(np.float32) / 64
    nodes = [
        helper.make_node("Cast", ["image"], ["values"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["values", "axes"], ["means"], keepdims=0),
        helper.make_node("MatMul", ["means", "weights"], ["logits"]),
        activation,
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [
            helper.make_tensor_value_info(
                "image", TensorProto.UINT8, ["batch", *recipe.output_shape]
            )
        ],
        [
            helper.make_tensor_value_info(output, TensorProto.FLOAT, ["batch", classes])
            for output in ("probabilities", "logits")
        ],
        [
            numpy_helper.from_array(np.array([1, 2], np.int64), "axes"),
            numpy_helper.from_array(weights, "weights"),
        ],
    )
    opset = helper.make_opsetid("", 18)
    return ModelProto(ir_version=9, graph=graph, opset_import=[opset]).SerializeToString()


def _manifest(
    staging: Path, labels: tuple[str, ...], recipe: Preprocessing, evidence: dict[str, Any]
) -> Manifest:
    return Manifest(
        created_at=datetime.datetime.now(datetime.UTC),
        labels=labels,
        preprocessing=recipe,
        opset=18,
        provenance=Provenance(source="a given graph"),
        parity=(
            ParityReport(
                reference="itself",
                provider=PROVIDER,
                precision="float32",
                batch_sizes=(1,),
                images=1,
                max_logit_difference=0,
                max_probability_difference=0,
                probability_limit=0,
                top1_agreement=1,
            ),
        ),
        files=checksums(staging),
        **({"golden_tolerances": {PROVIDER: {"float32": 1e-5}}} | evidence),
    )
