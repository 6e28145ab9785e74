"""An int8 network gives the same answers on processors with and without 8-bit dot products.

VNNI and AMX add products of uint8 and int8 in 32 bits. Without them, AVX2 and AVX-512 first add two
neighbouring products in 16 bits, and a sum that does not fit saturates without a word.
"""

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import numpy_helper

from convd.artifact.bundle import MODEL_FILE, Artifact
from convd.artifact.preprocessing import Preprocessing, ResizeTo
from convd.artifact.repository import ModelRepository
from convd.export.examination import examine, serving_model
from convd.export.options import ExportOptions
from convd.export.progress import SilentProgress
from convd.export.publication import publish
from convd.export.range_choice import quantize
from convd.export.sources.labelled_pictures import load_training_part
from convd.models import create_model
from convd.runtime.cpu import CPU
from convd.runtime.session import Session
from tests.export import self_test
from tests.export.digits import ClassMeans, trained_on_digits
from tests.export.networks import TinyCnn, trained

LARGEST_ACTIVATION = 255
LARGEST_16_BIT_SUM = 2**15 - 1
EMULATOR = "qemu-x86_64"
WITHOUT_VNNI = (EMULATOR, "-cpu", "Haswell")


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    options = ExportOptions(precision="int8", quantization_data=load_training_part("digits"))
    repository = ModelRepository(tmp_path_factory.mktemp("repository"))
    return publish(trained_on_digits(ClassMeans()), repository, "digits", options).path


@pytest.fixture(scope="module", params=["published", "lenet5", "tiny"])
def quantized(request: pytest.FixtureRequest, published: Path) -> onnx.ModelProto:
    if request.param == "published":
        return onnx.load(published / MODEL_FILE)
    torch.manual_seed(0)
    source = trained(TinyCnn().eval())
    if request.param == "lenet5":
        lenet = create_model("lenet5", num_classes=10, in_channels=1)
        recipe = Preprocessing(resize=ResizeTo(height=32, width=32), channel_order="L")
        source = replace(trained_on_digits(lenet), preprocessing=recipe)
    model = serving_model(source, examine(source, SilentProgress()))
    shape = (16, *source.preprocessing.output_shape)
    pictures = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    return quantize(model, pictures, pictures[:4]).model


def test_two_products_always_fit_16_bits(quantized: onnx.ModelProto) -> None:
    weights = _int8_weights(quantized)
    assert weights
    for channels in weights.values():
        two_largest = np.sort(np.abs(channels), axis=1)[:, -2:].sum(axis=1)
        assert (LARGEST_ACTIVATION * two_largest <= LARGEST_16_BIT_SUM).all()


def test_each_channel_uses_the_range_that_is_left(quantized: onnx.ModelProto) -> None:
    for channels in _int8_weights(quantized).values():
        assert (np.abs(channels).max(axis=1) == 64).all()


@pytest.mark.skipif(
    shutil.which(EMULATOR) is None, reason=f"{EMULATOR} is not installed: apt install qemu-user"
)
def test_answers_are_the_same_without_vnni(published: Path, tmp_path: Path) -> None:
    """An emulated Haswell has AVX2 and nothing newer, whatever this machine has."""
    answers = tmp_path / "answers.npy"
    emulated = subprocess.run(
        [*WITHOUT_VNNI, sys.executable, self_test.__file__, published, answers],
        check=False,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert emulated.returncode == 0, emulated.stderr
    artifact = Artifact.open(published)
    session = Session(artifact.read(MODEL_FILE), CPU)
    here = session.run(self_test.golden_images(artifact)).probabilities
    tolerance = artifact.manifest.golden_tolerance(CPU.name, "int8")
    assert tolerance is not None
    assert np.abs(np.load(answers) - here).max() <= tolerance


def _int8_weights(model: onnx.ModelProto) -> dict[str, NDArray[np.int32]]:
    """Weights by name, int32 `[channels, weights of a channel]`."""
    constants = {one.name: numpy_helper.to_array(one) for one in model.graph.initializer}
    dequantized = {
        node.output[0]: node for node in model.graph.node if node.op_type == "DequantizeLinear"
    }
    weights = {}
    for node in model.graph.node:
        if node.op_type not in ("Conv", "Gemm", "MatMul") or node.input[1] not in dequantized:
            continue
        source = dequantized[node.input[1]]
        values = constants[source.input[0]]
        assert values.dtype == np.int8
        axis = next((one.i for one in source.attribute if one.name == "axis"), 1)
        channels = np.moveaxis(values, axis, 0).astype(np.int32)
        weights[source.input[0]] = channels.reshape(len(channels), -1)
    return weights
