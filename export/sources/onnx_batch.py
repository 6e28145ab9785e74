"""Makes the batch of a foreign ONNX graph dynamic, wherever its size stands as a number.

Exporters that saw one picture write its batch into shapes. Which numbers mean the batch cannot be
told from a graph, so what is changed is tried: the graph has to answer two pictures. Whether the
answers are right is for the proof.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, helper, numpy_helper

from convd.export.errors import SourceError
from convd.export.graph.network_graph import ImageInput
from convd.export.graph.wrapping import inner_graphs
from convd.export.sources.onnx_trial import problem_with

_BATCH = "dynamic_batch/size"
_LAST = np.iinfo(np.int64).max
_SHAPE_INPUTS = {"Reshape": 1, "Expand": 1, "ConstantOfShape": 0, "Resize": 3, "Tile": 1}


def make_batch_dynamic(
    model: ModelProto, given: ImageInput, output: str, declared: int | None
) -> int | None:
    """Let a graph take any batch.

    Args:
        model: The graph, which is changed.
        given: Its input.
        output: Its output.
        declared: Batch size that its input is declared with; None where that is dynamic.

    Returns:
        Batch size that the file itself is fixed to; None where it takes any.

    Raises:
        SourceError: It answers one batch size only, and changing its shapes does not help.
    """
    value = next(each for each in model.graph.input if each.name == given.name)
    first = value.type.tensor_type.shape.dim[0]
    if not first.dim_param:
        first.Clear()
        first.dim_param = "batch"
    for graph in _all_graphs(model.graph):
        del graph.value_info[:]
    fixed = declared or 1
    if declared is None and (
        not _Rewriting(model, given, fixed).finds_any()
        or problem_with(model, given, output) is None
    ):
        return None
    cautious = ModelProto()
    cautious.CopyFrom(model)
    _Rewriting(cautious, given, fixed).run({"Reshape"})
    if problem_with(cautious, given, output) is None:
        model.CopyFrom(cautious)
        return fixed
    _Rewriting(model, given, fixed).run()
    problem = problem_with(model, given, output)
    if problem is not None:
        raise SourceError(
            f"the file has a batch of {fixed} in its layers ({problem}): export it again with a "
            "dynamic batch, such as torch.onnx.export(network, (example,), 'model.onnx', "
            "dynamo=True, dynamic_shapes=({0: 'batch'},)) and an example of two pictures"
        )
    return fixed


class _Rewriting:
    """Puts the size of the batch that comes in place of numbers that may mean it.

    Args:
        model: The graph.
        given: Its input.
        batch: The number.
    """

    def __init__(self, model: ModelProto, given: ImageInput, batch: int) -> None:
        self._graph = model.graph
        self._given = given
        self._batch = batch
        self._constants = _constants(model.graph)
        self._number = 0
        self._size_is_needed = False

    def finds_any(self) -> bool:
        """Whether any node has such a number."""
        graphs = _all_graphs(self._graph)
        return any(self._rule(node) is not None for graph in graphs for node in graph.node)

    def run(self, kinds: set[str] | None = None) -> None:
        """Rewrite nodes, all that have such a number or those of a few kinds."""
        nodes = [(graph, node) for graph in _all_graphs(self._graph) for node in graph.node]
        for graph, node in nodes:
            rule = self._rule(node)
            if rule is not None and (kinds is None or node.op_type in kinds):
                rule(graph, node)
        if self._size_is_needed:
            shape, size = _BATCH + "/shape", _BATCH
            ends = [self._constant(np.array([each], np.int64)) for each in (0, 1)]
            self._graph.node.insert(0, helper.make_node("Slice", [shape, *ends], [size]))
            self._graph.node.insert(0, helper.make_node("Shape", [self._given.name], [shape]))

    def _rule(self, node: NodeProto) -> Callable[[GraphProto, NodeProto], None] | None:
        kind = node.op_type
        if kind == "Concat" and _axis(node) != 0 and any(map(self._is_of_batch, node.input)):
            return self._rewrite_concat
        if kind == "Slice" and self._whole_batch(node):
            return self._rewrite_slice
        place = _SHAPE_INPUTS.get(kind)
        if place is None or len(node.input) <= place:
            return None
        shape = self._constants.get(node.input[place])
        if shape is None or shape.ndim != 1 or len(shape) < 2 or shape[0] != self._batch:
            return None
        if kind == "Reshape":
            return None if _keeps_zero(node) else self._rewrite_reshape
        if kind == "Tile" and self._batch == 1 and node.input[0] not in self._constants:
            return None
        return self._rewrite_shape

    def _rewrite_reshape(self, _: GraphProto, node: NodeProto) -> None:
        # Many graphs flatten to [1, -1]: 0 stands for the size that there is.
        shape = self._constants[node.input[1]].copy()
        shape[0] = 0
        node.input[1] = self._constant(shape)

    def _rewrite_shape(self, graph: GraphProto, node: NodeProto) -> None:
        place = _SHAPE_INPUTS[node.op_type]
        self._insert_shape(graph, node, place, self._constants[node.input[place]])

    def _rewrite_slice(self, _: GraphProto, node: NodeProto) -> None:
        ends = self._constants[node.input[2]].copy()
        ends[self._whole_batch(node)] = _LAST
        node.input[2] = self._constant(ends)

    def _rewrite_concat(self, graph: GraphProto, node: NodeProto) -> None:
        for place, name in enumerate(node.input):
            if not self._is_of_batch(name):
                continue
            repeated = self._name()
            expand = helper.make_node("Expand", [name, ""], [repeated])
            position = _position(graph, node)
            graph.node.insert(position, expand)
            node.input[place] = repeated
            shape = np.array(self._constants[name].shape, np.int64)
            self._insert_shape(graph, graph.node[position], 1, shape)

    def _insert_shape(
        self, graph: GraphProto, node: NodeProto, place: int, shape: NDArray[Any]
    ) -> None:
        self._size_is_needed = True
        name = self._name()
        rest = self._constant(shape[1:].astype(np.int64))
        made = helper.make_node("Concat", [_BATCH, rest], [name], axis=0)
        graph.node.insert(_position(graph, node), made)
        node.input[place] = name

    def _whole_batch(self, node: NodeProto) -> list[int]:
        """The places in the operands of a Slice where the batch ends at a number."""
        known = [self._constants.get(name) for name in node.input[1:4]]
        starts, ends, axes = (*known, None, None, None)[:3]
        if starts is None or ends is None or (len(node.input) > 3 and axes is None):
            return []
        axes = np.arange(len(starts)) if axes is None else axes
        whole = (axes == 0) & (starts == 0) & (ends == self._batch)
        return [int(place) for place in np.flatnonzero(whole)]

    def _is_of_batch(self, name: str) -> bool:
        constant = self._constants.get(name)
        return constant is not None and constant.ndim > 1 and constant.shape[0] == self._batch

    def _constant(self, value: NDArray[Any]) -> str:
        name = self._name()
        self._graph.initializer.append(numpy_helper.from_array(value, name))
        return name

    def _name(self) -> str:
        self._number += 1
        return f"dynamic_batch/{self._number}"


def _constants(graph: GraphProto) -> dict[str, NDArray[Any]]:
    """Every constant of a graph and of those inside it, by name."""
    found: dict[str, NDArray[Any]] = {}
    for each in _all_graphs(graph):
        for tensor in each.initializer:
            found[tensor.name] = numpy_helper.to_array(tensor)
        for node in each.node:
            for attribute in node.attribute:
                if node.op_type == "Constant" and attribute.name == "value":
                    found[node.output[0]] = numpy_helper.to_array(attribute.t)
    return found


def _all_graphs(graph: GraphProto) -> Iterator[GraphProto]:
    yield graph
    for node in graph.node:
        for inner in inner_graphs(node):
            yield from _all_graphs(inner)


def _position(graph: GraphProto, node: NodeProto) -> int:
    return next(i for i, each in enumerate(graph.node) if each.output[:] == node.output[:])


def _axis(node: NodeProto) -> int:
    return next((int(each.i) for each in node.attribute if each.name == "axis"), 0)


def _keeps_zero(node: NodeProto) -> bool:
    return any(each.name == "allowzero" and each.i for each in node.attribute)
