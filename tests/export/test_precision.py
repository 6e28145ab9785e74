"""Smaller precisions: what they cost is measured, and too much is refused."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from convd.artifact.bundle import MODEL_FILE, Artifact
from convd.artifact.repository import ModelRepository
from convd.export.errors import AccuracyDropError, SourceError
from convd.export.options import ExportOptions, ExportPrecision
from convd.export.publication import publish
from convd.export.sources.labelled_pictures import load_training_part
from convd.runtime.cpu import CPU
from convd.runtime.selftest import run_self_test
from convd.runtime.session import Session
from tests.export.digits import ClassMeans, SpoiledByRounding, trained_on_digits
from tests.export.networks import TinyCnn, trained


def options(precision: ExportPrecision, **more: float) -> ExportOptions:
    data = load_training_part("digits") if precision == "int8" else None
    return ExportOptions(precision=precision, quantization_data=data, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("precision", ["float16", "int8"])
def test_accuracy_before_and_after_is_written_down(
    precision: ExportPrecision, tmp_path: Path
) -> None:
    published = publish(
        trained_on_digits(ClassMeans()), ModelRepository(tmp_path), "digits", options(precision)
    )
    manifest = published.manifest
    assert manifest.precision == precision
    assert manifest.quantization is not None
    assert manifest.accuracy is not None
    assert manifest.quantization.top1_after == manifest.accuracy.top1
    assert manifest.quantization.top1_before is not None
    assert manifest.quantization.top1_before > 0.85
    assert manifest.accuracy.top1 >= manifest.quantization.top1_before - 0.01
    artifact = Artifact.open(published.path)
    session = Session(artifact.read(MODEL_FILE), CPU)
    tolerance = manifest.golden_tolerance(CPU.name, precision)
    assert tolerance is not None
    assert run_self_test(artifact, session) <= tolerance
    model = onnx.load(published.path / MODEL_FILE)
    types = {constant.data_type for constant in model.graph.initializer}
    assert (onnx.TensorProto.INT8 if precision == "int8" else onnx.TensorProto.FLOAT16) in types
    card = (published.path / "MODEL_CARD.md").read_text()
    assert f"Made {precision}" in card
    assert ("signal to noise of the logits in dB: minmax" in card) == (precision == "int8")


def test_int8_weights_have_one_scale_per_channel(tmp_path: Path) -> None:
    published = publish(
        trained_on_digits(ClassMeans()), ModelRepository(tmp_path), "digits", options("int8")
    )
    graph = onnx.load(published.path / MODEL_FILE).graph
    constants = {one.name: onnx.numpy_helper.to_array(one) for one in graph.initializer}
    dequantized = [node for node in graph.node if node.op_type == "DequantizeLinear"]
    (weights,) = [
        node for node in dequantized if constants.get(node.input[0], np.zeros(0)).ndim == 4
    ]
    assert constants[weights.input[0]].dtype == np.int8
    assert constants[weights.input[1]].shape == (10,)
    activations = [node for node in graph.node if node.op_type == "QuantizeLinear"]
    assert activations
    assert all(constants[node.input[2]].dtype == np.uint8 for node in activations)


def test_a_drop_of_accuracy_is_refused_and_nothing_published(tmp_path: Path) -> None:
    with pytest.raises(AccuracyDropError, match=r"int8 costs .* more than --max-accuracy-drop"):
        publish(
            trained_on_digits(SpoiledByRounding()),
            ModelRepository(tmp_path),
            "digits",
            options("int8"),
        )
    assert os.listdir(tmp_path / "digits") == []


def test_what_was_allowed_is_published(tmp_path: Path) -> None:
    source, repository = trained_on_digits(SpoiledByRounding()), ModelRepository(tmp_path)
    exact = publish(source, repository, "exact", ExportOptions())
    # Training measured float32, and int8 may be worse by what is allowed.
    measured = replace(source, recorded_accuracy=exact.manifest.accuracy)
    published = publish(measured, repository, "digits", options("int8", max_accuracy_drop=1.0))
    quantization = published.manifest.quantization
    assert quantization is not None
    assert quantization.top1_before is not None
    assert quantization.top1_after is not None
    assert quantization.top1_before - quantization.top1_after > 0.1


@pytest.mark.parametrize(
    ("precision", "with_data", "message"),
    [
        ("int8", False, "give --quantization-data"),
        ("float32", True, "leave it out"),
        ("float16", False, "give --data"),
    ],
)
def test_data_that_do_not_fit_the_precision_are_refused(
    precision: ExportPrecision, with_data: bool, message: str, tmp_path: Path
) -> None:
    data = load_training_part("digits") if with_data else None
    with pytest.raises(SourceError, match=message):
        publish(
            trained(TinyCnn().eval()),
            ModelRepository(tmp_path),
            "net",
            ExportOptions(precision=precision, quantization_data=data),
        )
