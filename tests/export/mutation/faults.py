"""Deliberate faults, and the exports that meet them."""

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any
from unittest import mock

import numpy as np
import onnx
import torch
from onnx import GraphProto, TensorProto, helper, numpy_helper
from PIL import Image, ImageOps
from torch import nn

from convd.artifact.manifest import Normalization
from convd.artifact.preprocessing import CenterCrop, Preprocessing, ResizeShorterSide, ResizeTo
from convd.export.sources.zoo import ZooNetwork
from tests.export.mutation import exports
from tests.export.mutation.exports import Export

Fault = Callable[[Any], Any]
"""Makes a wrong function of a right one."""

Change = Callable[[GraphProto], None]


@dataclass(frozen=True)
class Mutation:
    """A fault.

    Attributes:
        what: What is wrong, in words.
        targets: The functions of convd that are replaced, as `module:name`.
        fault: Makes the wrong function of the right one.
        export: The export that meets it.
    """

    what: str
    targets: tuple[str, ...]
    fault: Fault
    export: Export


def argument(name: str, change: Callable[[Any], Any]) -> Fault:
    """Call the right function with one argument that is wrong."""

    def fault(right: Any) -> Any:
        signature = inspect.signature(right)

        @functools.wraps(right)
        def wrong(*args: Any, **kwargs: Any) -> Any:
            bound = signature.bind(*args, **kwargs)
            bound.arguments[name] = change(bound.arguments[name])
            return right(*bound.args, **bound.kwargs)

        return wrong

    return fault


def result(change: Callable[[Any], Any]) -> Fault:
    """Change what the right function returns."""

    def fault(right: Any) -> Any:
        @functools.wraps(right)
        def wrong(*args: Any, **kwargs: Any) -> Any:
            return change(right(*args, **kwargs))

        return wrong

    return fault


def in_graph(change: Change) -> Fault:
    """Change the ONNX graph that the right function returns, by itself or in a NetworkGraph."""

    def apply(made: Any) -> Any:
        change((made if isinstance(made, onnx.ModelProto) else made.model).graph)
        return made

    return result(apply)


def operator(old: str, new: str, number: int = 0) -> Fault:
    def change(graph: GraphProto) -> None:
        found = [node for node in graph.node if node.op_type == old]
        found[number].op_type = new
        if new == "Sigmoid":
            del found[number].attribute[:]

    return in_graph(change)


def attribute(kind: str, name: str, value: Any, number: int = 0) -> Fault:
    def change(graph: GraphProto) -> None:
        found = [node for node in graph.node if node.op_type == kind][number]
        kept = [each for each in found.attribute if each.name != name]
        del found.attribute[:]
        found.attribute.extend([*kept, helper.make_attribute(name, value)])

    return in_graph(change)


def constant(name: str, change: Callable[[Any], Any]) -> Fault:
    def apply(graph: GraphProto) -> None:
        for each in graph.initializer:
            if each.name.endswith(name):
                values = np.ascontiguousarray(change(numpy_helper.to_array(each)))
                each.CopyFrom(numpy_helper.from_array(values.astype(np.float32), each.name))

    return in_graph(apply)


def temperature(change: Change) -> Fault:
    """Change the graph where it has a temperature."""

    def apply(graph: GraphProto) -> None:
        if any(node.output[0] == "convd/tempered" for node in graph.node):
            change(graph)

    return in_graph(apply)


def _divide_again(graph: GraphProto) -> None:
    index = next(i for i, node in enumerate(graph.node) if node.output[0] == "convd/tempered")
    again = onnx.NodeProto()
    again.CopyFrom(graph.node[index])
    again.name, again.input[0], again.output[0] = "again", "convd/tempered", "convd/again"
    graph.node[index + 1].input[0] = "convd/again"
    graph.node.insert(index + 1, again)


def _multiply(graph: GraphProto) -> None:
    divided = next(node for node in graph.node if node.output[0] == "convd/tempered")
    divided.op_type = "Mul"


def _skip(graph: GraphProto) -> None:
    last = next(node for node in graph.node if node.output[0] == "probabilities")
    last.input[0] = "logits"


def _round_weights(graph: GraphProto) -> None:
    for each in graph.initializer:
        if each.data_type == TensorProto.FLOAT and len(each.dims) > 1:
            values = numpy_helper.to_array(each).astype(np.float16).astype(np.float32)
            each.CopyFrom(numpy_helper.from_array(values, each.name))


def _clip_int8(graph: GraphProto) -> None:
    for each in graph.initializer:
        if each.data_type == TensorProto.INT8:
            values = np.clip(numpy_helper.to_array(each), -8, 0).astype(np.int8)
            each.CopyFrom(numpy_helper.from_array(values, each.name))


def _lose_biases(graph: GraphProto) -> None:
    for each in graph.initializer:
        if each.data_type == TensorProto.FLOAT16 and len(each.dims) == 1:
            values = np.zeros(tuple(each.dims), np.float16)
            each.CopyFrom(numpy_helper.from_array(values, each.name))


def _transpose_squares(loaded: Any) -> Any:
    tensors = {
        name: tensor.T.contiguous()
        if tensor.ndim == 2 and tensor.shape[0] == tensor.shape[1]
        else tensor
        for name, tensor in loaded.tensors.items()
    }
    return loaded._replace(tensors=tensors)


def _plain_weights(right: Any) -> Any:
    def wrong(path: Any, *, key: Any = None) -> Any:
        del key
        return right(path, key="state_dict")

    return wrong


def _forget_one_tensor(right: Any) -> Any:
    def wrong(network: nn.Module, *rest: Any) -> Any:
        own = network.state_dict()["linear.weight"].clone()
        left_out = right(network, *rest)
        with torch.no_grad():
            network.get_parameter("linear.weight").copy_(own)
        return left_out

    return wrong


def _cut_corner(right: Any) -> Any:
    del right
    return lambda picture, crop: picture.crop((0, 0, crop.width, crop.height))


def _without_antialiasing(right: Any) -> Any:
    def wrong(picture: Image.Image, recipe: Preprocessing) -> Any:
        resize = Image.Image.resize

        def nearest(self: Image.Image, size: Any, *_: Any) -> Image.Image:
            return resize(self, size, Image.Resampling.NEAREST)

        with mock.patch.object(Image.Image, "resize", nearest):
            return right(picture, recipe)

    return wrong


def _recipe(**changes: Any) -> Fault:
    return argument("recipe", lambda recipe: recipe.model_copy(update=changes))


def _zoo(**changes: Any) -> Fault:
    def wrong(found: tuple[ZooNetwork, object]) -> tuple[ZooNetwork, object]:
        zoo, facts = found
        assert zoo.preprocessing is not None
        return zoo._replace(preprocessing=zoo.preprocessing.model_copy(update=changes)), facts

    return result(wrong)


def _checkpoint(**changes: Any) -> Fault:
    return result(
        lambda loaded: loaded._replace(description=loaded.description.model_copy(update=changes))
    )


def _described(change: Callable[[Any], dict[str, Any]]) -> Fault:
    return result(lambda found: found._replace(**change(found)))


def _read_as(output: str, logits: str | None = "network_output") -> Fault:
    return result(lambda reading: replace(reading, output=output, logits=logits))


def _squeezed(recipe: Preprocessing) -> Preprocessing:
    height, width = recipe.output_size
    return Preprocessing(resize=ResizeTo(height=height, width=width))


WRAP = ("convd.export.examination:wrap",)
CONVERT = ("convd.export.examination:convert",)
READ = ("convd.export.examination:read_output",)
DESCRIBE = ("convd.export.sources.loading:describe",)
RECIPE = ("convd.export.sources.description:_preprocessing",)
LOAD = ("convd.export.sources.weights_file:load_weights",)
FILL = ("convd.export.sources.weights_file:fill_network",)
ZOO = ("convd.export.sources.loading:library_network",)
CHECKPOINT = ("convd.export.sources.checkpoint:load_checkpoint",)
CROP = ("convd.artifact.preprocessing:_cut_center",)
DECODE = ("convd.export.proof.agreement:decode_image",)
INT8 = ("convd.export.range_choice:to_int8",)
FLOAT16 = ("convd.export.reduced_precision:to_float16",)
GOLDEN = ("convd.export.report.golden_cases:GoldenPictures.write_cases",)
PREPARE = tuple(
    f"convd.export.{module}:prepare_image"
    for module in ("examination", "proof.agreement", "report.golden_cases")
)
FLAT = Normalization(mean=(0.0,), std=(5.0,))

MUTATIONS = [
    Mutation("the mean is not subtracted", WRAP, constant("/mean", lambda v: 0 * v), exports.photo),
    Mutation(
        "the channels' means are reversed",
        WRAP,
        constant("/mean", lambda v: v[..., ::-1]),
        exports.photo,
    ),
    Mutation(
        "the channels' stds are reversed",
        WRAP,
        constant("/std", lambda v: v[..., ::-1]),
        exports.photo,
    ),
    Mutation("pixels are divided by 256", WRAP, constant("/scale", lambda v: v + 1), exports.photo),
    Mutation("std multiplies", WRAP, operator("Div", "Mul", 1), exports.photo),
    Mutation("the mean is added", WRAP, operator("Sub", "Add"), exports.photo),
    Mutation(
        "height and width are exchanged",
        WRAP,
        attribute("Transpose", "perm", [0, 3, 2, 1]),
        exports.digits,
    ),
    Mutation(
        "softmax runs over the batch", WRAP, attribute("Softmax", "axis", 0, -1), exports.photo
    ),
    Mutation(
        "sigmoid takes the place of softmax",
        WRAP,
        operator("Softmax", "Sigmoid", -1),
        exports.photo,
    ),
    Mutation(
        "the temperature is applied twice", WRAP, temperature(_divide_again), exports.calibrated
    ),
    Mutation("the temperature multiplies", WRAP, temperature(_multiply), exports.calibrated),
    Mutation("the temperature is forgotten", WRAP, temperature(_skip), exports.calibrated),
    Mutation(
        "the temperature is 10 % off",
        WRAP,
        constant("/temperature", lambda v: 1.1 * v),
        exports.calibrated,
    ),
    Mutation(
        "p and 1 - p are exchanged",
        WRAP,
        constant("/columns", lambda v: v[:, ::-1]),
        exports.binary,
    ),
    Mutation("a sigmoid is taken for a logit", READ, _read_as("one_logit"), exports.one_sigmoid),
    Mutation("the network's softmax is left in", READ, _read_as("logits"), exports.softmax),
    Mutation(
        "a foreign file's softmax is left in", READ, _read_as("logits", None), exports.foreign
    ),
    Mutation(
        "independent sigmoids go through a softmax", READ, _read_as("logits"), exports.sigmoids
    ),
    Mutation(
        "independent sigmoids are taken for classes",
        READ,
        _read_as("probabilities", None),
        exports.sigmoids,
    ),
    Mutation(
        "a square layer is transposed",
        CONVERT,
        constant("square.weight", lambda v: v.T),
        exports.photo,
    ),
    Mutation("weights are rounded to 16 bits", CONVERT, in_graph(_round_weights), exports.photo),
    Mutation("a bias is lost", CONVERT, constant("linear.bias", lambda v: 0 * v), exports.photo),
    Mutation("ReLU becomes LeakyReLU", CONVERT, operator("Relu", "LeakyRelu"), exports.photo),
    Mutation(
        "outputs are rotated by one class",
        CONVERT,
        constant("linear.weight", lambda v: np.roll(v, 1, axis=0)),
        exports.photo,
    ),
    Mutation("pictures are cut from the corner", CROP, _cut_corner, exports.photo),
    Mutation("another filter scales", PREPARE, _recipe(interpolation="bicubic"), exports.photo),
    Mutation("scaling has no antialiasing", PREPARE, _without_antialiasing, exports.photo),
    Mutation("channels are swapped", PREPARE, _recipe(channel_order="BGR"), exports.photo),
    Mutation("BGR is forgotten", PREPARE, _recipe(channel_order="RGB"), exports.bgr),
    Mutation(
        "pictures are squeezed, not cut", PREPARE, argument("recipe", _squeezed), exports.photo
    ),
    Mutation("the decoder mirrors", DECODE, result(ImageOps.mirror), exports.digits),
    Mutation("averaged weights (EMA) are dropped", LOAD, _plain_weights, exports.weights),
    Mutation(
        "weights are transposed as they are read", LOAD, result(_transpose_squares), exports.weights
    ),
    Mutation("one tensor keeps its random values", FILL, _forget_one_tensor, exports.weights),
    Mutation(
        "labels are shifted by one",
        DESCRIBE,
        _described(lambda found: {"labels": (*found.labels[1:], found.labels[0])}),
        exports.photo,
    ),
    Mutation(
        "--mean and --std are exchanged",
        DESCRIBE,
        _described(
            lambda found: {
                "normalization": Normalization(
                    mean=found.normalization.std, std=found.normalization.mean
                )
            }
        ),
        exports.photo,
    ),
    Mutation("--crop is lost", RECIPE, result(_squeezed), exports.photo),
    Mutation(
        "a library's resize is that of other weights",
        ZOO,
        _zoo(resize=ResizeShorterSide(size=232)),
        exports.zoo,
    ),
    Mutation("a library's filter is another", ZOO, _zoo(interpolation="bicubic"), exports.zoo),
    Mutation(
        "a library's crop is smaller",
        ZOO,
        _zoo(center_crop=CenterCrop(height=192, width=192)),
        exports.zoo,
    ),
    Mutation(
        "a checkpoint's normalisation is lost",
        CHECKPOINT,
        _checkpoint(normalization=FLAT),
        exports.checkpoint,
    ),
    Mutation(
        "a checkpoint's labels are reversed",
        CHECKPOINT,
        _checkpoint(labels=tuple("9876543210")),
        exports.checkpoint,
    ),
    Mutation("int8 clips half of the weights", INT8, in_graph(_clip_int8), exports.int8),
    Mutation("float16 loses its biases", FLOAT16, in_graph(_lose_biases), exports.float16),
    Mutation(
        "golden answers belong to other pictures",
        GOLDEN,
        argument("probabilities", lambda v: np.roll(v, 1, axis=0)),
        exports.digits,
    ),
]
