"""A foreign ONNX file becomes an artifact that answers as the file did."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from convd.artifact.bundle import MODEL_FILE
from convd.artifact.preprocessing import CenterCrop, ResizeShorterSide, ResizeTo
from convd.artifact.repository import ModelRepository
from convd.export.errors import ConversionError, SourceError
from convd.export.publication import publish
from convd.export.sources.description import GivenDescription
from convd.export.sources.loading import SourceRequest, load_source
from tests.export.networks import CLASSES

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
DESCRIBED = GivenDescription(labels=CLASSES, mean=MEAN, std=STD)


def foreign_model(
    *,
    softmax: str = "none",
    layout: str = "NCHW",
    pixels: bool = False,
    batch: str | int = "N",
    size: str | int = 16,
    opset: int = 17,
    domain: str = "",
) -> onnx.ModelProto:
    """A small CNN, written by hand."""
    generator = np.random.default_rng(0)
    constants = {
        "weight": generator.normal(size=(8, 3, 3, 3), scale=0.3).astype(np.float32),
        "matrix": generator.normal(size=(8, 5)).astype(np.float32),
        "scale": np.array(1 / 128, np.float32),
    }
    shape = [batch, 3, size, size] if layout == "NCHW" else [batch, size, size, 3]
    nodes, value = [], "input"
    if layout == "NHWC":
        nodes.append(helper.make_node("Transpose", [value], ["first"], perm=[0, 3, 1, 2]))
        value = "first"
    if pixels:
        nodes.append(helper.make_node("Cast", [value], ["floats"], to=TensorProto.FLOAT))
        nodes.append(helper.make_node("Mul", ["floats", "scale"], ["scaled"]))
        value = "scaled"
    nodes += [
        helper.make_node("Conv", [value, "weight"], ["maps"]),
        helper.make_node("Relu", ["maps"], ["positive"]),
        helper.make_node("GlobalAveragePool", ["positive"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("MatMul", ["flat", "matrix"], ["scores"], domain=domain),
    ]
    last = "scores"
    if softmax == "operator":
        nodes.append(helper.make_node("Softmax", ["scores"], ["normalized"], axis=1))
        last = "normalized"
    if softmax == "in other words":
        nodes += [
            helper.make_node("Exp", ["scores"], ["powers"]),
            helper.make_node("ReduceSum", ["powers", "axis"], ["total"], keepdims=1),
            helper.make_node("Div", ["powers", "total"], ["normalized"]),
        ]
        constants["axis"] = np.array([1], np.int64)
        last = "normalized"
    nodes.append(helper.make_node("Identity", [last], ["output"]))
    element_type = TensorProto.UINT8 if pixels else TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "foreign",
        [helper.make_tensor_value_info("input", element_type, shape)],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [batch, 5])],
        [numpy_helper.from_array(each, name) for name, each in constants.items()],
    )
    opsets = [helper.make_opsetid("", opset)] + ([helper.make_opsetid(domain, 1)] if domain else [])
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def saved(path: Path, **options: object) -> Path:
    onnx.save(foreign_model(**options), path)  # type: ignore[arg-type]
    return path


def softmax_of(scores: NDArray[np.float32]) -> NDArray[np.float64]:
    powers = np.exp(scores - scores.max(axis=1, keepdims=True), dtype=np.float64)
    probabilities: NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
    return probabilities


@pytest.mark.parametrize("softmax", ["none", "operator", "in other words"])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("pixels", [False, True], ids=["float32", "uint8"])
def test_the_artifact_answers_as_the_file_does(
    softmax: str, layout: str, pixels: bool, tmp_path: Path
) -> None:
    file = saved(tmp_path / "model.onnx", softmax=softmax, layout=layout, pixels=pixels)
    given = GivenDescription(labels=CLASSES) if pixels else DESCRIBED
    source = load_source(SourceRequest(str(file), given=given))
    published = publish(source, ModelRepository(tmp_path / "repository"), "foreign")

    images = np.random.default_rng(1).integers(0, 256, (9, 16, 16, 3), dtype=np.uint8)
    taken = images if pixels else ((images / 255 - MEAN) / STD).astype(np.float32)
    taken = taken if layout == "NHWC" else taken.transpose(0, 3, 1, 2)
    original = ort.InferenceSession(file, providers=["CPUExecutionProvider"])
    (answer,) = original.run(None, {"input": taken})
    expected = answer if softmax != "none" else softmax_of(answer)

    session = ort.InferenceSession(published.path / MODEL_FILE, providers=["CPUExecutionProvider"])
    probabilities, logits = session.run(["probabilities", "logits"], {"image": images})
    assert np.abs(probabilities - expected).max() < 1e-6
    if softmax == "none":
        assert np.abs(logits - answer).max() < 1e-5
    assert published.manifest.provenance.source == "model.onnx"
    assert published.manifest.opset == 17
    assert (published.manifest.normalization is None) == pixels


def test_the_size_is_taken_from_the_file_or_has_to_be_given(tmp_path: Path) -> None:
    fixed = load_source(SourceRequest(str(saved(tmp_path / "a.onnx")), given=DESCRIBED))
    assert fixed.preprocessing.resize == ResizeTo(height=16, width=16)
    dynamic = str(saved(tmp_path / "b.onnx", size="side"))
    with pytest.raises(SourceError, match="give --resize"):
        load_source(SourceRequest(dynamic, given=DESCRIBED))
    given = GivenDescription(
        labels=CLASSES,
        mean=MEAN,
        std=STD,
        resize=ResizeShorterSide(size=20),
        crop=CenterCrop(height=18, width=18),
    )
    source = load_source(SourceRequest(dynamic, given=given))
    published = publish(source, ModelRepository(tmp_path / "repository"), "foreign")
    assert published.manifest.preprocessing.output_shape == (18, 18, 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 16, "domain": "com.example"}, "cannot be read as ONNX"),
    ],
)
def test_a_file_that_cannot_be_served_is_refused(
    options: dict[str, object], message: str, tmp_path: Path
) -> None:
    file = saved(tmp_path / "model.onnx", **options)
    with pytest.raises(SourceError, match=message):
        load_source(SourceRequest(str(file), given=DESCRIBED))


def test_pictures_of_another_size_than_the_file_takes_are_refused(tmp_path: Path) -> None:
    given = GivenDescription(
        labels=CLASSES, mean=MEAN, std=STD, resize=ResizeTo(height=32, width=32)
    )
    source = load_source(SourceRequest(str(saved(tmp_path / "model.onnx")), given=given))
    with pytest.raises(ConversionError, match="--resize"):
        publish(source, ModelRepository(tmp_path), "foreign")


def test_a_file_that_is_damaged_or_missing_is_refused(tmp_path: Path) -> None:
    file = saved(tmp_path / "model.onnx")
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(SourceError, match="cannot be read as ONNX"):
        load_source(SourceRequest(str(file), given=DESCRIBED))
    with pytest.raises(SourceError, match="does not exist"):
        load_source(SourceRequest(str(tmp_path / "no.onnx"), given=DESCRIBED))


def test_normalisation_of_a_file_that_takes_pixels_is_refused(tmp_path: Path) -> None:
    file = saved(tmp_path / "model.onnx", pixels=True)
    with pytest.raises(SourceError, match="leave --mean and --std out"):
        load_source(SourceRequest(str(file), given=DESCRIBED))
