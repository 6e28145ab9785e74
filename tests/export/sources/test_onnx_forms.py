"""ONNX as it is found: each form becomes an artifact that answers as the file itself."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from click.testing import CliRunner, Result
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper

from convd.artifact.bundle import MODEL_FILE, Artifact
from convd.commands.export import command
from tests.export.test_onnx_source import MEAN, STD, foreign_model, softmax_of

FLAGS = "--mean 0.4,0.5,0.6 --std 0.2,0.25,0.3"
LABELS = ("ant", "bee", "cat", "dog", "elk")


def fixed(batch: int) -> ModelProto:
    model = foreign_model(batch=batch)
    flatten = next(node for node in model.graph.node if node.op_type == "Flatten")
    flatten.op_type = "Reshape"
    flatten.input.append("shape")
    del flatten.attribute[:]
    shape = np.array([batch, -1], np.int64)
    model.graph.initializer.append(numpy_helper.from_array(shape, "shape"))
    return model


def declared(batch: int) -> ModelProto:
    """A batch that is declared as -1 or 0, as some converters write it."""
    model = foreign_model()
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = batch
    return model


def dynamic_but_reshaped() -> ModelProto:
    model = fixed(1)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "N"
    return model


def of_type(element_type: int, *, inside: bool) -> ModelProto:
    """Input and output, and weights where `inside`, of another floating-point type."""
    model = foreign_model(softmax="operator")
    graph = model.graph
    for value in (*graph.input, *graph.output):
        value.type.tensor_type.elem_type = element_type
    dtype = helper.tensor_dtype_to_np_dtype(element_type)
    if inside:
        for constant in graph.initializer:
            values = numpy_helper.to_array(constant).astype(dtype)
            constant.CopyFrom(numpy_helper.from_array(values, constant.name))
        return model
    for node in graph.node:
        node.input[:] = ["floats" if name == "input" else name for name in node.input]
    graph.node[-1].output[0] = "narrow"
    graph.node.insert(0, helper.make_node("Cast", ["input"], ["floats"], to=TensorProto.FLOAT))
    graph.node.append(helper.make_node("Cast", ["narrow"], ["output"], to=element_type))
    return model


def old(opset: int = 7) -> ModelProto:
    """An old operator set, and IR version 3, whose constants are among the inputs."""
    model = foreign_model(opset=opset)
    model.ir_version = 3
    for constant in model.graph.initializer:
        model.graph.input.append(
            helper.make_tensor_value_info(constant.name, constant.data_type, constant.dims)
        )
    return model


def with_function() -> ModelProto:
    model = foreign_model()
    body = helper.make_function(
        "local",
        "Activate",
        ["x"],
        ["y"],
        [helper.make_node("Relu", ["x"], ["y"])],
        [helper.make_opsetid("", 17)],
    )
    model.functions.append(body)
    model.opset_import.append(helper.make_opsetid("local", 1))
    relu = next(node for node in model.graph.node if node.op_type == "Relu")
    relu.op_type, relu.domain = "Activate", "local"
    return model


def with_if() -> ModelProto:
    """A branch that reads a constant from outside."""
    model = foreign_model()
    graph = model.graph
    branches = [
        helper.make_graph(
            [helper.make_node(kind, ["scores", "shift"], [f"{kind}/out"])],
            kind,
            [],
            [helper.make_tensor_value_info(f"{kind}/out", TensorProto.FLOAT, ["N", 5])],
        )
        for kind in ("Add", "Sub")
    ]
    shift = np.arange(5, dtype=np.float32)
    graph.initializer.append(numpy_helper.from_array(shift, "shift"))
    graph.initializer.append(numpy_helper.from_array(np.array(True), "condition"))
    last = graph.node[-1]
    last.input[0] = "chosen"
    node = helper.make_node(
        "If", ["condition"], ["chosen"], then_branch=branches[0], else_branch=branches[1]
    )
    graph.node.insert(len(graph.node) - 1, node)
    return model


def with_zipmap() -> ModelProto:
    """As Custom Vision writes it: a label, and a dictionary for each picture."""
    model = foreign_model(softmax="operator", batch=1)
    graph = model.graph
    del graph.output[:]
    model.opset_import.append(helper.make_opsetid("ai.onnx.ml", 1))
    graph.node.append(helper.make_node("ArgMax", ["output"], ["index"], axis=1, keepdims=0))
    names = numpy_helper.from_array(np.array([one.encode() for one in LABELS], object), "names")
    graph.initializer.append(names)
    graph.node.append(
        helper.make_node(
            "ArrayFeatureExtractor", ["names", "index"], ["classLabel"], domain="ai.onnx.ml"
        )
    )
    graph.node.append(
        helper.make_node(
            "ZipMap", ["output"], ["loss"], domain="ai.onnx.ml", classlabels_strings=LABELS
        )
    )
    graph.output.append(helper.make_tensor_value_info("classLabel", TensorProto.STRING, [1, 1]))
    loss = helper.make_sequence_type_proto(
        helper.make_map_type_proto(
            TensorProto.STRING, helper.make_tensor_type_proto(TensorProto.FLOAT, [])
        )
    )
    graph.output.append(helper.make_value_info("loss", loss))
    return model


def of_custom_vision() -> ModelProto:
    """The same for pixels from 0 to 255, with the metadata that say so."""
    model = with_zipmap()
    weight = next(each for each in model.graph.initializer if each.name == "weight")
    weight.CopyFrom(
        numpy_helper.from_array(numpy_helper.to_array(weight) / np.float32(64), "weight")
    )
    for key, value in (
        ("Image.BitmapPixelFormat", "Bgr8"),
        ("Image.ColorSpaceGamma", "SRGB"),
        ("Image.NominalPixelRange", "NominalRange_0_255"),
    ):
        model.metadata_props.add(key=key, value=value)
    return model


def symbolic() -> ModelProto:
    model = foreign_model()
    dimensions = model.graph.input[0].type.tensor_type.shape.dim
    for dimension, name in zip(
        dimensions, ("batch", "num_channels", "height", "width"), strict=True
    ):
        dimension.dim_param = name
    return model


def with_two_outputs() -> ModelProto:
    model = foreign_model()
    model.graph.output.append(helper.make_tensor_value_info("flat", TensorProto.FLOAT, ["N", 8]))
    return model


def named_labels() -> ModelProto:
    model = foreign_model()
    note = model.metadata_props.add()
    note.key, note.value = "names", str(dict(enumerate(LABELS)))
    return model


FORMS: dict[str, tuple[Callable[[], ModelProto], str]] = {
    "batch fixed at 1": (lambda: fixed(1), ""),
    "batch fixed at 4": (lambda: fixed(4), ""),
    "batch declared as -1": (lambda: declared(-1), ""),
    "batch declared as 0": (lambda: declared(0), ""),
    "dynamic, but reshaped to [1, -1]": (dynamic_but_reshaped, ""),
    "float16 input and output": (lambda: of_type(TensorProto.FLOAT16, inside=False), ""),
    "float64 input and output": (lambda: of_type(TensorProto.DOUBLE, inside=False), ""),
    "float16 inside": (lambda: of_type(TensorProto.FLOAT16, inside=True), ""),
    "operator set 7, IR version 3": (old, ""),
    "a local function": (with_function, ""),
    "an If with an outer constant": (with_if, ""),
    "symbolic channels": (symbolic, "--channel-order RGB --resize 16x16"),
    "one output of two": (with_two_outputs, "--output output"),
}


def export(model: ModelProto, tmp_path: Path, flags: str, *, name: str = "model.onnx") -> Result:
    file = tmp_path / name
    onnx.save(model, file)
    words = f"{file} --name net --repository {tmp_path / 'r'} {FLAGS} {flags}".split()
    return CliRunner().invoke(command, words)


def served(tmp_path: Path, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    path = tmp_path / "r" / "net" / "1" / MODEL_FILE
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    (probabilities,) = session.run(["probabilities"], {"image": images})
    assert isinstance(probabilities, np.ndarray)
    return probabilities


def plain_answers(model: ModelProto, images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The file's own answers, one picture after another, as probabilities."""
    runnable = ModelProto()
    runnable.CopyFrom(model)
    for value in (*runnable.graph.input, *runnable.graph.output):
        dimensions = value.type.tensor_type.shape.dim
        if dimensions and dimensions[0].dim_value < 1:
            value.type.tensor_type.shape.dim[0].dim_param = "any"
    file = runnable.SerializeToString()
    session = ort.InferenceSession(file, providers=["CPUExecutionProvider"])
    (given,) = [one for one in session.get_inputs() if one.name == "input"]
    dtype = {"tensor(float)": np.float32, "tensor(float16)": np.float16}.get(given.type, np.float64)
    size = given.shape[0] if isinstance(given.shape[0], int) and given.shape[0] > 0 else 1
    rows = []
    for image in images:
        taken = ((image / 255 - MEAN) / STD).astype(dtype).transpose(2, 0, 1)
        answer = session.run(None, {"input": np.repeat(taken[None], size, axis=0)})[0]
        rows.append(np.asarray(answer)[:1])
    values = np.concatenate(rows).astype(np.float64)
    ends_in_softmax = any(node.op_type == "Softmax" for node in model.graph.node)
    return values if ends_in_softmax else softmax_of(values.astype(np.float32))


@pytest.mark.parametrize("form", FORMS)
def test_the_artifact_answers_as_the_file_does(form: str, tmp_path: Path) -> None:
    make, flags = FORMS[form]
    check_answers(make(), flags, tmp_path)


def check_answers(model: ModelProto, flags: str, tmp_path: Path) -> None:
    """Export a file and compare the artifact's answers with its own."""
    done = export(model, tmp_path, f"--labels {','.join(LABELS)} {flags}")
    assert done.exit_code == 0, done.output
    images = np.random.default_rng(1).integers(0, 256, (9, 16, 16, 3), dtype=np.uint8)
    assert np.abs(served(tmp_path, images) - plain_answers(model, images)).max() < 1e-5
    parity = Artifact.open(tmp_path / "r" / "net" / "1").manifest.parity[-1]
    assert parity.max_probability_difference < 1e-5


def test_zipmap_and_label_outputs_are_cut_off_and_labels_read(tmp_path: Path) -> None:
    model = with_zipmap()
    done = export(model, tmp_path, "", name="MODEL.ONNX")
    assert done.exit_code == 0, done.output
    manifest = Artifact.open(tmp_path / "r" / "net" / "1").manifest
    assert manifest.labels == LABELS
    images = np.random.default_rng(1).integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for image, row in zip(images, served(tmp_path, images), strict=True):
        taken = ((image / 255 - MEAN) / STD).astype(np.float32).transpose(2, 0, 1)[None]
        ((found,),) = session.run(["loss"], {"input": taken})
        assert np.abs(row - [found[label] for label in LABELS]).max() < 1e-5


def test_labels_of_the_files_metadata_are_taken_and_said(tmp_path: Path) -> None:
    done = export(named_labels(), tmp_path, "")
    assert done.exit_code == 0, done.output
    assert "5: ant, bee, cat, dog, elk  [the file's metadata]" in done.output


@pytest.mark.parametrize(
    ("make", "flags", "message"),
    [
        (symbolic, "--resize 16x16", "give --channel-order RGB, BGR or L"),
        (with_two_outputs, "", r"2 outputs (output, flat): choose one with --output output"),
        (with_two_outputs, "--output nothing", "has no output 'nothing': it has output, flat"),
    ],
)
def test_what_has_to_be_said_is_asked_for(
    make: Callable[[], ModelProto], flags: str, message: str, tmp_path: Path
) -> None:
    done = export(make(), tmp_path, f"--labels {','.join(LABELS)} {flags}")
    assert done.exit_code == 1
    assert message in done.output
