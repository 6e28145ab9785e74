"""Puts a network as ONNX into the form that is served."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import AttributeProto, GraphProto, NodeProto, TensorProto, helper, numpy_helper

from convd.artifact.graph_contract import (
    ACTIVATION_MAPS,
    FEATURES,
    IMAGE,
    OPTIONAL,
    OUTPUTS,
    REQUIRED,
    RowShape,
)
from convd.artifact.manifest import Normalization
from convd.artifact.preprocessing import Preprocessing
from convd.export.errors import ConversionError
from convd.export.graph.head import Head
from convd.export.graph.network_graph import ImageInput, NetworkGraph
from convd.export.graph.network_output import OWN_PROBABILITIES, OutputReading

_MIN_IR_VERSION = 8
_OURS = "convd/"
_THEIRS = "network/"


def wrap(
    network: NetworkGraph,
    reading: OutputReading,
    preprocessing: Preprocessing,
    normalization: Normalization | None,
    classes: int,
    temperature: float = 1.0,
    head: Head | None = None,
) -> onnx.ModelProto:
    """Put normalisation before a network; logits, temperature and activation behind it.

    Args:
        network: The network.
        reading: What its outputs are.
        preprocessing: Gives the shape of the pictures.
        normalization: What the network's pixels are normalised with; None for a network that takes
            pixels.
        classes: Number of labels.
        temperature: What the logits are divided by before the activation (Guo et al., "On
            Calibration of Modern Neural Networks", 2017).
        head: The last layer, whose input is an output as well; None for none.

    Returns:
        A graph with input `image` and outputs `probabilities` and `logits`, and with a head
        `features` and where there are any `activation_maps`. The network is in it unchanged,
        without its own activation where that could be taken off.

    Raises:
        ConversionError: The pictures do not fit the network.
    """
    check_size(network.input, preprocessing)
    model = onnx.ModelProto()
    model.CopyFrom(network.model)
    taken = {IMAGE.name, *(output.name for output in (*REQUIRED, *OPTIONAL))}
    shared = {} if head is None else _shared_values(head, network)

    def theirs(name: str) -> str:
        return shared.get(name) or (_THEIRS + name if name in taken else name)

    _rename(model.graph, theirs)
    added = _Added()
    given = theirs(network.input.name)
    _add_normalization(added, network.input, normalization, preprocessing.output_shape, given)
    before = added.take()
    value = theirs(reading.logits or network.output)
    _add_outputs(added, reading, value, temperature)
    shapes: dict[str, RowShape] = dict.fromkeys((output.name for output in REQUIRED), (classes,))
    if head is not None:
        shapes |= _add_head(added, head, theirs)
    body = model.graph
    nodes = [*before, *body.node, *added.take()]
    del body.node[:], body.input[:], body.output[:], body.value_info[:]
    body.node.extend(nodes)
    body.initializer.extend(added.constants)
    body.input.append(
        helper.make_tensor_value_info(
            IMAGE.name, TensorProto.UINT8, ["batch", *preprocessing.output_shape]
        )
    )
    body.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *shape])
        for name, shape in shapes.items()
    )
    _drop_unused(body)
    model.ir_version = max(model.ir_version, _MIN_IR_VERSION)
    return model


def check_size(given: ImageInput, preprocessing: Preprocessing) -> None:
    """Refuse pictures that do not fit a network's input.

    Raises:
        ConversionError: They do not.
    """
    height, width, channels = preprocessing.output_shape
    fits = given.height in (None, height) and given.width in (None, width)
    if channels != given.channels or not fits:
        raise ConversionError(
            f"the graph takes pictures of {given.height or 'any'} x {given.width or 'any'} pixels "
            f"and {given.channels} channels, but --resize, --crop and --channel-order give "
            f"{height} x {width} and {channels}"
        )


class _Added:
    """Nodes and constants that are added to a graph, under names of their own."""

    def __init__(self) -> None:
        self.constants: list[TensorProto] = []
        self._nodes: list[NodeProto] = []

    def node(self, operator: str, *inputs: str, output: str, **attributes: Any) -> str:  # noqa: ANN401
        """Add a node and return the name of its output."""
        made = helper.make_node(operator, inputs, [output], name=_OURS + output, **attributes)
        self._nodes.append(made)
        return output

    def constant(self, name: str, value: NDArray[np.generic]) -> str:
        """Add a constant and return its name."""
        self.constants.append(numpy_helper.from_array(value, _OURS + name))
        return _OURS + name

    def take(self) -> list[NodeProto]:
        """The nodes that were added since this was last called."""
        nodes, self._nodes = self._nodes, []
        return nodes


def _add_normalization(
    added: _Added,
    given: ImageInput,
    normalization: Normalization | None,
    shape: tuple[int, int, int],
    target: str,
) -> None:
    """From the picture to what the network takes."""
    value = IMAGE.name
    if normalization is not None:

        def for_a_row(name: str, values: Sequence[float]) -> str:
            # ONNX Runtime is ten times as slow where the last axis that it can take at once is as
            # short as the channels: for a LeNet that was two thirds of all it computes.
            row = np.broadcast_to(np.array(values, np.float32), shape[1:])
            return added.constant(name, np.ascontiguousarray(row))

        value = added.node("Cast", value, output=_OURS + "pixels", to=TensorProto.FLOAT)
        value = added.node("Div", value, for_a_row("scale", [255]), output=_OURS + "scaled")
        mean, std = normalization.mean, normalization.std
        value = added.node("Sub", value, for_a_row("mean", mean), output=_OURS + "centred")
        value = added.node("Div", value, for_a_row("std", std), output=_OURS + "normalized")
    if given.element_type != (TensorProto.UINT8 if given.takes_pixels else TensorProto.FLOAT):
        value = added.node("Cast", value, output=_OURS + "cast", to=given.element_type)
    if given.channels_last:
        added.node("Identity", value, output=target)
    else:
        # Last, so that ONNX Runtime cannot take a cast to float16 together with one back.
        added.node("Transpose", value, output=target, perm=[0, 3, 1, 2])


def _add_outputs(added: _Added, reading: OutputReading, value: str, temperature: float) -> None:
    """From what the network gives to logits and probabilities."""
    # In this order, so that ONNX Runtime cannot take a cast to float16 together with one back.
    value = added.node("Flatten", value, output=_OURS + "rows", axis=1)
    value = added.node("Cast", value, output=_OURS + "float", to=TensorProto.FLOAT)
    own = value
    two_classes = reading.output in ("one_logit", "one_probability")
    if reading.logits is None:
        if reading.output == "probabilities":
            value = _add_log(added, value, "log")
        elif reading.output in ("one_probability", "independent_probabilities"):
            one = added.constant("one", np.array(1, np.float32))
            rest = added.node("Sub", one, value, output=_OURS + "rest")
            parts = _add_log(added, value, "log"), _add_log(added, rest, "log_rest")
            value = added.node("Sub", *parts, output=_OURS + "log_odds")
    if two_classes:
        # The softmax of [0, z] is [1 - sigmoid(z), sigmoid(z)].
        columns = added.constant("columns", np.array([[0, 1]], np.float32))
        value = added.node("Mul", value, columns, output=_OURS + "two_classes")
    added.node("Identity", value, output=OUTPUTS.logits.name)
    value = OUTPUTS.logits.name
    if temperature == 1 and reading.logits is None and reading.output in OWN_PROBABILITIES:
        _add_own_probabilities(added, reading, own)
        return
    if temperature != 1:
        divisor = added.constant("temperature", np.array(temperature, np.float32))
        value = added.node("Div", value, divisor, output=_OURS + "tempered")
    if reading.task == "multilabel":
        added.node("Sigmoid", value, output=OUTPUTS.probabilities.name)
    else:
        added.node("Softmax", value, output=OUTPUTS.probabilities.name, axis=1)


def _shared_values(head: Head, network: NetworkGraph) -> dict[str, str]:
    """Values of the network that are outputs as they are: nothing is computed for them."""
    outputs = {head.features: FEATURES.name}
    if head.maps is not None:
        outputs[head.maps] = ACTIVATION_MAPS.name
    made = {name for node in network.model.graph.node for name in node.output}
    return {name: output for name, output in outputs.items() if name in head.ready & made}


def _add_head(added: _Added, head: Head, theirs: Callable[[str], str]) -> dict[str, RowShape]:
    """Make outputs of what the last layer takes; shapes of one row, by name."""
    shapes: dict[str, RowShape] = {FEATURES.name: (head.length,)}
    features = theirs(head.features)
    if features != FEATURES.name:
        rows = added.node("Flatten", features, output=_OURS + "feature_rows", axis=1)
        added.node("Cast", rows, output=FEATURES.name, to=TensorProto.FLOAT)
    if head.maps is not None and head.map_shape is not None:
        shapes[ACTIVATION_MAPS.name] = head.map_shape
        maps = theirs(head.maps)
        if maps != ACTIVATION_MAPS.name:
            added.node("Cast", maps, output=ACTIVATION_MAPS.name, to=TensorProto.FLOAT)
    return shapes


def _add_own_probabilities(added: _Added, reading: OutputReading, value: str) -> None:
    """Serve the network's own numbers where they are probabilities and nothing is to be changed."""
    if reading.output == "one_probability":
        one = added.constant("whole", np.array(1, np.float32))
        rest = added.node("Sub", one, value, output=_OURS + "other")
        added.node("Concat", rest, value, output=OUTPUTS.probabilities.name, axis=1)
    else:
        added.node("Identity", value, output=OUTPUTS.probabilities.name)


def _add_log(added: _Added, value: str, name: str) -> str:
    """The logarithm of a probability, finite where that is 0."""
    tiny = added.constant(f"{name}_tiny", np.array(np.finfo(np.float32).tiny, np.float32))
    positive = added.node("Max", value, tiny, output=f"{_OURS}{name}_positive")
    return added.node("Log", positive, output=_OURS + name)


def _rename(graph: GraphProto, new_name: Callable[[str], str]) -> None:
    """Rename values everywhere, in the graphs inside it too; those see the values around them."""
    for value in (*graph.input, *graph.output, *graph.value_info):
        value.name = new_name(value.name)
    for constant in graph.initializer:
        constant.name = new_name(constant.name)
    for sparse in graph.sparse_initializer:
        sparse.values.name = new_name(sparse.values.name)
    for node in graph.node:
        node.input[:] = map(new_name, node.input)
        node.output[:] = map(new_name, node.output)
        for inner in inner_graphs(node):
            _rename(inner, new_name)


def inner_graphs(node: NodeProto) -> list[GraphProto]:
    """The graphs inside a node, such as the branches of an If."""
    found: list[GraphProto] = []
    for attribute in node.attribute:
        found += [attribute.g] if attribute.type == AttributeProto.GRAPH else attribute.graphs
    return found


def _drop_unused(graph: GraphProto) -> None:
    """Remove the network's own activation and what else leads nowhere."""
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
    for inner in inner_graphs(node):
        for inner_node in inner.node:
            names |= _names_read(inner_node)
        names |= {value.name for value in inner.output}
    return names
