"""The networks that are compared: trained on digits, published in float32 and int8."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import QuantType, quantize_static
from rich.console import Console

from convd.artifact.bundle import MODEL_FILE
from convd.artifact.evidence import QuantizationReport
from convd.artifact.preprocessing import prepare_image
from convd.artifact.repository import ModelRepository
from convd.export.activation_ranges import MAX_EXAMPLES, observe, ranges_by
from convd.export.options import ExportOptions
from convd.export.progress import TerminalProgress
from convd.export.publication import publish
from convd.export.quantization import OPERATORS, prepare, to_int8
from convd.export.sources.checkpoint import network_from_checkpoint
from convd.export.sources.labelled_pictures import LabelledPictures, load_training_part
from convd.models.checkpoint import is_checkpoint
from convd.models.settings import TrainingSettings
from convd.models.training import train

RUN = Path("runs/quantization")
MAX_ACCURACY_DROP = 0.01


@dataclass(frozen=True)
class Published:
    """A network in both precisions.

    Attributes:
        float32: The graph's file.
        int8: The graph's file.
        report: What int8 cost.
        images: Held-out digits, prepared, uint8 `[digits, height, width, 1]`.
        truth: The class of each, int `[digits]`.
    """

    float32: Path
    int8: Path
    report: QuantizationReport
    images: NDArray[np.uint8]
    truth: NDArray[np.int64]


def train_and_publish(architecture: str, input_size: int, epochs: int) -> Published:
    """Train on scikit-learn's digits, unless that was done before, and publish twice."""
    console = Console(stderr=True)
    checkpoint = RUN / f"{architecture}-{input_size}"
    if not is_checkpoint(checkpoint):
        settings = TrainingSettings(
            architecture=architecture, data="digits", input_size=input_size, epochs=epochs
        )
        train(settings, checkpoint, console=console)
    source = network_from_checkpoint(checkpoint)
    repository = ModelRepository(RUN / "repository")
    options = ExportOptions(
        precision="int8",
        quantization_data=load_training_part("digits"),
        max_accuracy_drop=MAX_ACCURACY_DROP,
    )
    with TerminalProgress(console) as progress:
        plain = publish(source, repository, f"{architecture}-float32", ExportOptions(), progress)
        small = publish(source, repository, f"{architecture}-int8", options, progress)
    assert small.manifest.quantization is not None  # noqa: S101
    digits = source.examples
    assert isinstance(digits, LabelledPictures)  # noqa: S101
    images = [
        prepare_image(digits.picture(index), source.preprocessing) for index in range(len(digits))
    ]
    return Published(
        plain.path / MODEL_FILE,
        small.path / MODEL_FILE,
        small.manifest.quantization,
        np.stack(images),
        digits.truth.argmax(axis=1),
    )


def with_other_weights(published: Published) -> dict[str, onnx.ModelProto]:
    """The same network with the weights that convd does not choose."""
    prepared = prepare(onnx.load(published.float32))
    ranges = ranges_by("minmax", observe(prepared, published.images[:MAX_EXAMPLES], OPERATORS))
    kinds: dict[str, dict[str, Any]] = {
        "int8 of 8 bits": {"reduce_range": False},
        "uint8 of 8 bits": {"reduce_range": False, "weight_type": QuantType.QUInt8},
    }
    made = {}
    for name, changed in kinds.items():
        changed_quantizer = partial(_quantize, changed)
        with mock.patch("convd.export.quantization.quantize_static", changed_quantizer):
            made[name] = to_int8(prepared, ranges)
    return made


def _quantize(changed: dict[str, Any], *arguments: object, **options: object) -> None:
    quantize_static(*arguments, **options | changed)
