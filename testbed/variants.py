"""Versions of a model that answer differently, so that an answer shows who computed it."""

import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import numpy_helper

from convd.artifact.bundle import MANIFEST_FILE, MODEL_FILE, Artifact, checksums, write_manifest
from convd.artifact.decoding import decode_image
from convd.artifact.golden import GOLDEN_CASES
from convd.artifact.graph_contract import IMAGE, OUTPUTS
from convd.artifact.manifest import Manifest
from convd.artifact.preprocessing import prepare_image


def write_variant(source: Path, target: Path, seed: int) -> None:
    """Copy an artifact with other weights, and with the golden answers that these give.

    Args:
        source: An artifact.
        target: Where the copy is to be; written next to it and renamed, as publications are.
        seed: Which weights.
    """
    staging = target.with_name(f".staging-variant-{target.name}")
    shutil.copytree(source, staging)
    model = onnx.load(staging / MODEL_FILE)
    _change_weights(model, seed)
    onnx.save(model, staging / MODEL_FILE)
    artifact = Artifact.open(source)
    golden = artifact.golden_cases()
    recipe = artifact.manifest.preprocessing
    images = [
        prepare_image(decode_image((staging / case.image).read_bytes()), recipe)
        for case in golden.cases
    ]
    session = ort.InferenceSession(staging / MODEL_FILE, providers=["CPUExecutionProvider"])
    (probabilities,) = session.run([OUTPUTS.probabilities.name], {IMAGE.name: np.stack(images)})
    cases = tuple(
        case.model_copy(update={"probabilities": tuple(map(float, row))})
        for case, row in zip(golden.cases, probabilities, strict=True)
    )
    written = golden.model_copy(update={"cases": cases})
    (staging / GOLDEN_CASES).write_text(written.model_dump_json(indent=2))
    update_checksums(staging)
    target.parent.mkdir(parents=True, exist_ok=True)
    staging.rename(target)


def write_confused(source: Path, target: Path, classes: tuple[str, str]) -> None:
    """Copy an artifact that takes each of two classes for the other, and answers as ever otherwise.

    Args:
        source: An artifact.
        target: Where the copy is to be.
        classes: Labels of both.
    """
    staging = target.with_name(f".staging-confused-{target.name}")
    shutil.copytree(source, staging)
    other = dict(zip(classes, reversed(classes), strict=True))
    labels = Artifact.open(source).manifest.labels
    update_checksums(staging, labels=tuple(other.get(label, label) for label in labels))
    staging.rename(target)


def update_checksums(artifact: Path, **changes: object) -> None:
    """Make an artifact that was altered consistent again, so that only running it shows the change.

    Args:
        artifact: The altered artifact.
        **changes: Fields of the manifest to change as well.
    """
    manifest = Manifest.model_validate_json((artifact / MANIFEST_FILE).read_bytes())
    found = checksums(artifact)
    files = {file: found[file] for file in manifest.files}
    write_manifest(artifact, manifest.model_copy(update={"files": files, **changes}))


def _change_weights(model: onnx.ModelProto, seed: int) -> None:
    """Add noise to every matrix of floats, enough to change every answer."""
    random = np.random.default_rng(seed)
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype == np.float32 and values.ndim == 2:
            noise = random.normal(0, 3 * values.std(), values.shape).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(values + noise, tensor.name))
