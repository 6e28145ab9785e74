"""A network in 16-bit floats, for GPUs."""

import numpy as np
import onnx
from onnx import AttributeProto, NodeProto, TensorProto, helper, numpy_helper

from convd.artifact.graph_contract import IMAGE, OUTPUTS
from convd.export.errors import ConversionError

_NORMALIZING = {"Cast", "Div", "Identity", "Mul", "Sub", "Transpose"}
_FLOAT16 = "/float16"


def to_float16(model: onnx.ModelProto) -> onnx.ModelProto:
    """Convert the network's weights and arithmetic to float16.

    What comes before the first layer and after the last stays in float32: normalisation,
    temperature and softmax cost little and lose the most precision.

    Args:
        model: A served graph in float32.

    Raises:
        ConversionError: The graph has branches or loops.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph = copy.graph
    normalizing, start = _normalization(graph)
    given = [value.name for value in graph.output if value.name != OUTPUTS.probabilities.name]
    network = _network_nodes(graph, normalizing, given)
    names = {name: name + _FLOAT16 for name in (start, *given)}
    _convert_constants(graph, network, names)
    for node in network:
        _convert_node(node, names)
    into = helper.make_node("Cast", [start], [names[start]], to=TensorProto.FLOAT16)
    out_of = [
        helper.make_node("Cast", [names[name]], [name], to=TensorProto.FLOAT) for name in given
    ]
    inside = {id(node) for node in network}
    others = [node for node in graph.node if id(node) not in inside]
    after = [node for node in others if id(node) not in {id(one) for one in normalizing}]
    ordered = [*normalizing, into, *network, *out_of, *after]
    nodes = [NodeProto.FromString(node.SerializeToString()) for node in ordered]
    del graph.node[:], graph.value_info[:]
    graph.node.extend(nodes)
    return copy


def _normalization(graph: onnx.GraphProto) -> tuple[list[NodeProto], str]:
    """The nodes between the picture and the first layer, and the name of what they give."""
    value = IMAGE.name
    nodes: list[NodeProto] = []
    while True:
        readers = [node for node in graph.node if value in node.input]
        if len(readers) != 1 or readers[0].op_type not in _NORMALIZING:
            return nodes, value
        nodes.append(readers[0])
        value = readers[0].output[0]


def _network_nodes(
    graph: onnx.GraphProto, normalizing: list[NodeProto], given: list[str]
) -> list[NodeProto]:
    """The nodes from there to what the network gives, in order."""
    needed = set(given)
    found = []
    for node in reversed(graph.node):
        if needed.isdisjoint(node.output) or node in normalizing:
            continue
        if any(attribute.type == AttributeProto.GRAPH for attribute in node.attribute):
            raise ConversionError(
                f"the network has a branch or loop ({node.op_type}), which cannot be converted to "
                "float16: export it with --precision float32"
            )
        found.append(node)
        needed.update(node.input)
    return found[::-1]


def _convert_constants(
    graph: onnx.GraphProto, network: list[NodeProto], names: dict[str, str]
) -> None:
    """Add the network's floating-point constants once more in float16, and drop what is unused."""
    read = {name for node in network for name in node.input}
    inside = {id(node) for node in network}
    elsewhere = {name for node in graph.node if id(node) not in inside for name in node.input}
    constants = []
    for constant in graph.initializer:
        if constant.name not in read or constant.data_type != TensorProto.FLOAT:
            constants.append(constant)
            continue
        names[constant.name] = constant.name + _FLOAT16
        constants.append(_rounded(constant, names[constant.name]))
        if constant.name in elsewhere:
            constants.append(constant)
    kept = [TensorProto.FromString(constant.SerializeToString()) for constant in constants]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def _convert_node(node: NodeProto, names: dict[str, str]) -> None:
    for values in (node.input, node.output):
        values[:] = [names.get(name, name) for name in values]
    for attribute in node.attribute:
        if node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.FLOAT:
            attribute.i = TensorProto.FLOAT16
        if attribute.type == AttributeProto.TENSOR and attribute.t.data_type == TensorProto.FLOAT:
            attribute.t.CopyFrom(_rounded(attribute.t, attribute.t.name))


def _rounded(constant: TensorProto, name: str) -> TensorProto:
    return numpy_helper.from_array(numpy_helper.to_array(constant).astype(np.float16), name)
