"""Reads the end of a graph: which activation, if any, its output comes from."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import onnx
from onnx import NodeProto, helper

EndKind = Literal[
    "none",
    "softmax",
    "softmax over another axis",
    "log softmax",
    "sigmoid",
    "heads",
    "clipped",
    "decision",
]

_PASSING = ("Identity", "Cast", "Flatten", "Reshape", "Squeeze", "Unsqueeze")
"""Operators that may stand behind an activation without changing any number."""

_LINEAR = ("Gemm", "MatMul", "Conv")
_CLIPPING = ("Clip", "HardSigmoid", "Relu", "ThresholdedRelu", "Tanh", "Softsign", "Softplus")
_DECIDING = ("ArgMax", "ArgMin", "TopK", "Hardmax", "OneHot")
_FIRST_OPSET_WITH_ONE_AXIS = 13
"""Before it, Softmax flattened all dimensions from its axis on into one."""


@dataclass(frozen=True)
class GraphEnd:
    """The end of a graph.

    Attributes:
        kind: The activation that the output comes from.
        seen: What was found there, in words.
        before: Name of the value that goes into the activation; the output where there is none.
    """

    kind: EndKind
    seen: str
    before: str


def read_end(model: onnx.ModelProto, output: str) -> GraphEnd:
    """Walk from an output backwards to the operator that gave it its values.

    Args:
        model: A graph.
        output: Name of the output.
    """
    return _EndReader(model).read(output)


class _EndReader:
    def __init__(self, model: onnx.ModelProto) -> None:
        self._makers = {name: node for node in model.graph.node for name in node.output}
        self._opset = next(
            (one.version for one in model.opset_import if one.domain in ("", "ai.onnx")), 1
        )
        self._ranks = _ranks(model)
        self._constants = {one.name: one for one in model.graph.initializer}

    def read(self, output: str) -> GraphEnd:
        node = self._maker(output)
        if node is None:
            return GraphEnd("none", "its input", output)
        kind = node.op_type
        seen = f"{kind} ({node.name or node.output[0]})"
        before = str(node.input[0]) if node.input else output
        if kind in ("Softmax", "LogSoftmax"):
            return self._softmax(node, seen, before)
        if kind == "Sigmoid":
            return GraphEnd("sigmoid", seen, before)
        if kind == "Log":
            inner = self.read(before)
            if inner.kind == "softmax":
                return GraphEnd("log softmax", f"{seen} of {inner.seen}", inner.before)
            if inner.kind == "sigmoid":
                return GraphEnd("clipped", f"{seen} of {inner.seen}", output)
        if kind == "Concat":
            return self._concatenation(node, seen, output)
        if kind in _CLIPPING:
            return GraphEnd("clipped", seen, output)
        if kind in _DECIDING:
            return GraphEnd("decision", seen, output)
        return GraphEnd("none", seen, output)

    def _maker(self, name: str) -> NodeProto | None:
        """The node that computed a value, behind those that only change its form."""
        node = self._makers.get(name)
        while node is not None and node.op_type in _PASSING:
            node = self._makers.get(node.input[0])
        return node

    def _softmax(self, node: NodeProto, seen: str, before: str) -> GraphEnd:
        log = node.op_type == "LogSoftmax"
        default = -1 if self._opset >= _FIRST_OPSET_WITH_ONE_AXIS else 1
        axis = int(_attribute(node, "axis", default))
        rank = self._ranks.get(before) or self._ranks.get(str(node.output[0]))
        if rank is not None:
            axis %= rank
        last = axis == -1 or (rank is not None and axis == rank - 1)
        # [batch, classes, 1, 1] has its classes in the second dimension too.
        if not (axis == 1 or (last and rank in (None, 2))):
            text = f"{seen} over axis {axis} of {rank or 'unknown'} dimensions"
            return GraphEnd("softmax over another axis", text, before)
        return GraphEnd("log softmax" if log else "softmax", seen, before)

    def _concatenation(self, node: NodeProto, seen: str, output: str) -> GraphEnd:
        ends = [self.read(name) for name in node.input]
        if all(end.kind == "sigmoid" for end in ends):
            return GraphEnd("sigmoid", f"{seen} of {len(ends)} sigmoids", output)
        softmaxes = [end.seen for end in ends if "softmax" in end.kind]
        if softmaxes:
            return GraphEnd("heads", f"{seen} joins {', '.join(softmaxes)}", output)
        heads = [self._linear_head(name) for name in node.input]
        named = [head for head in heads if head is not None]
        if len(named) == len(heads) and len(set(named)) == len(heads) > 1:
            return GraphEnd("heads", f"{seen} joins the layers {', '.join(named)}", output)
        return GraphEnd("none", seen, output)

    def _linear_head(self, name: str) -> str | None:
        """The linear layer that a value comes from; its bias may be added by itself."""
        node = self._maker(name)
        if node is not None and node.op_type == "Add":
            node = next(filter(None, map(self._maker, node.input)), None)
        if node is None or node.op_type not in _LINEAR:
            return None
        return str(node.input[1])


def _attribute(node: NodeProto, name: str, default: int) -> int:
    found = next((one for one in node.attribute if one.name == name), None)
    return default if found is None else int(helper.get_attribute_value(found))


def _ranks(model: onnx.ModelProto) -> Mapping[str, int]:
    """Number of dimensions of every value for which it can be inferred."""
    try:
        graph = onnx.shape_inference.infer_shapes(model).graph
    # What is wrong with the graph is said by the checks of the served one.
    except Exception:
        graph = model.graph
    return {
        value.name: len(value.type.tensor_type.shape.dim)
        for value in (*graph.value_info, *graph.input, *graph.output)
        if value.type.tensor_type.HasField("shape")
    }
