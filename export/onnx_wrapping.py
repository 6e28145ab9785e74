"""Puts a foreign ONNX graph into the form that is served."""

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, compose, helper, numpy_helper

from convd.artifact.graph_contract import IMAGE, OUTPUTS
from convd.artifact.preprocessing import Preprocessing
from convd.export.errors import ConversionError
from convd.export.graph import ServingGraph
from convd.export.sources.onnx_file import OnnxNetwork
from convd.models.normalization import NormalizeImages

MIN_OPSET = 8
"""The oldest operator set in which every operator that is added here broadcasts."""

_MIN_IR_VERSION = 8
"""From version 4 on, constants need not be inputs as well."""

_PREFIX = "network/"


def wrap_onnx(graph: ServingGraph, preprocessing: Preprocessing, classes: int) -> onnx.ModelProto:
    """Put normalisation before a foreign graph, and temperature and softmax behind it.

    Args:
        graph: What the wrapped graph has to answer; its network is an `OnnxNetwork`.
        preprocessing: Gives the shape of the pictures.
        classes: Number of labels.

    Returns:
        A graph with the inputs and outputs of `convd.artifact.graph_contract`; the foreign graph is
        in it unchanged, without its softmax.

    Raises:
        ConversionError: The pictures do not fit the foreign graph, or its operator set is too old.
    """
    network = graph.network
    assert isinstance(network, OnnxNetwork)  # noqa: S101
    _check_size(network, preprocessing)
    opset = next((one.version for one in network.model.opset_import if one.domain == ""), 0)
    if opset < MIN_OPSET:
        raise ConversionError(
            f"the file uses operator set {opset}: convert it with onnx.version_converter."
            f"convert_version(model, {MIN_OPSET}) or export it again with a newer one"
        )
    model = compose.add_prefix(network.model, _PREFIX)
    body = model.graph
    constants: dict[str, NDArray[np.generic]] = {}
    before = _before(graph, network, constants)
    after = _after(graph, network, constants)
    nodes = [*before, *body.node, *after]
    del body.node[:], body.input[:], body.output[:], body.value_info[:]
    body.node.extend(nodes)
    body.initializer.extend(
        numpy_helper.from_array(value, name) for name, value in constants.items()
    )
    body.input.append(
        helper.make_tensor_value_info(
            IMAGE.name, TensorProto.UINT8, ["batch", *preprocessing.output_shape]
        )
    )
    body.output.extend(
        helper.make_tensor_value_info(output.name, TensorProto.FLOAT, ["batch", classes])
        for output in OUTPUTS
    )
    _drop_unused(body)
    model.ir_version = max(model.ir_version, _MIN_IR_VERSION)
    return model


def _check_size(network: OnnxNetwork, preprocessing: Preprocessing) -> None:
    height, width, channels = preprocessing.output_shape
    given = network.input
    fits = given.height in (None, height) and given.width in (None, width)
    if channels != given.channels or not fits:
        raise ConversionError(
            f"the graph takes pictures of {given.height or 'any'} x {given.width or 'any'} pixels "
            f"and {given.channels} channels, but --resize, --crop and --channel-order give "
            f"{height} x {width} and {channels}"
        )


def _before(
    graph: ServingGraph, network: OnnxNetwork, constants: dict[str, NDArray[np.generic]]
) -> list[NodeProto]:
    """From the picture to what the foreign graph takes."""
    target = _PREFIX + network.input.name
    nodes = []
    value = IMAGE.name
    if not network.input.channels_last:
        value = "channels_first"
        nodes.append(helper.make_node("Transpose", [IMAGE.name], [value], perm=[0, 3, 1, 2]))
    if isinstance(graph.normalize, NormalizeImages):
        shape = (1, 1, 1, -1) if network.input.channels_last else (1, -1, 1, 1)
        constants["scale"] = np.array(255, np.float32)
        constants["mean"] = graph.normalize.mean.numpy().reshape(shape)
        constants["std"] = graph.normalize.std.numpy().reshape(shape)
        nodes += [
            helper.make_node("Cast", [value], ["pixels"], to=TensorProto.FLOAT),
            helper.make_node("Div", ["pixels", "scale"], ["scaled"]),
            helper.make_node("Sub", ["scaled", "mean"], ["centred"]),
            helper.make_node("Div", ["centred", "std"], ["normalized"]),
        ]
        value = "normalized"
    nodes.append(helper.make_node("Identity", [value], [target]))
    return nodes


def _after(
    graph: ServingGraph, network: OnnxNetwork, constants: dict[str, NDArray[np.generic]]
) -> list[NodeProto]:
    """From what the foreign graph gives to logits and probabilities."""
    value = _PREFIX + network.logits_name
    nodes = []
    if network.gives_probabilities:
        constants["tiny"] = np.array(np.finfo(np.float32).tiny, np.float32)
        nodes += [
            helper.make_node("Max", [value, "tiny"], ["positive"]),
            helper.make_node("Log", ["positive"], ["log_probabilities"]),
        ]
        value = "log_probabilities"
    constants["temperature"] = np.array(graph.temperature, np.float32)
    probabilities, logits = OUTPUTS.probabilities.name, OUTPUTS.logits.name
    return [
        *nodes,
        helper.make_node("Flatten", [value], [logits], axis=1),
        helper.make_node("Div", [logits, "temperature"], ["tempered"]),
        helper.make_node("Softmax", ["tempered"], [probabilities], axis=1),
    ]


def _drop_unused(graph: onnx.GraphProto) -> None:
    """Remove the foreign softmax and what else leads nowhere."""
    needed = {value.name for value in graph.output}
    kept: list[NodeProto] = []
    for node in reversed(graph.node):
        if needed.isdisjoint(node.output):
            continue
        kept.append(node)
        needed.update(_names_read(node))
    del graph.node[:]
    graph.node.extend(reversed(kept))
    constants = [constant for constant in graph.initializer if constant.name in needed]
    del graph.initializer[:]
    graph.initializer.extend(constants)


def _names_read(node: NodeProto) -> set[str]:
    """What a node reads, and every graph inside it: those see the values around them."""
    names = set(node.input)
    for attribute in node.attribute:
        inner_graphs = [attribute.g] if attribute.HasField("g") else list(attribute.graphs)
        for inner in inner_graphs:
            for inner_node in inner.node:
                names |= _names_read(inner_node)
            names |= {value.name for value in inner.output}
    return names
