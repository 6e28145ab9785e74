"""Reads the head of a graph: its last linear layer, what it takes, and where that comes from."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import NodeProto, helper, numpy_helper

from convd.export.errors import ConversionError
from convd.export.graph.network_graph import NetworkGraph
from convd.export.graph.network_output import OutputReading

_PASSING = ("Identity", "Cast", "Dropout", "Flatten", "Reshape", "Squeeze", "Unsqueeze")
_TWO_DIMENSIONS = ({2, 3}, {-1, -2}, {2, -1}, {-2, 3})
_LOG_ERRORS_ONLY = 3


@dataclass(frozen=True)
class Head:
    """The last linear layer of a network.

    Attributes:
        features: Name of the value that it takes, `[batch, length]`.
        weights: float32 `[labels, length]`.
        bias: float32 `[labels]`.
        maps: Name of the feature maps whose means that value is, `[batch, length, height, width]`;
            None where it comes from something else.
        map_shape: Shape of one picture's maps; None where there are none.
        ready: Those of both values that are float32 in the shape of their outputs.
    """

    features: str
    weights: NDArray[np.float32]
    bias: NDArray[np.float32]
    maps: str | None
    map_shape: tuple[int, int, int] | None
    ready: frozenset[str] = frozenset()

    @property
    def length(self) -> int:
        """Number of features."""
        return int(self.weights.shape[1])


def read_head(graph: NetworkGraph, reading: OutputReading, image: NDArray[np.generic]) -> Head:
    """Find the last linear layer before the logits.

    Args:
        graph: The network.
        reading: What its outputs are.
        image: One picture as the network takes it, `[1, ...]`.

    Raises:
        ConversionError: The network does not end in a linear layer with constant weights.
    """
    found = None if reading.logits is None else _HeadReader(graph.model).read(reading.logits)
    if found is None:
        raise ConversionError(
            f"--features gives what the last linear layer takes, but the network ends in "
            f"{reading.seen.split(';')[0]}: leave --features out, or end the network with "
            "nn.Linear"
        )
    features, weights, bias, maps = found
    names = [features] if maps is None else [features, maps]
    values = dict(zip(names, _compute(graph, names, image), strict=True))
    map_shape = None
    if maps is not None:
        shape = values[maps].shape
        map_shape = (shape[1], shape[2], shape[3]) if len(shape) == 4 else None
    if reading.output in ("one_logit", "one_probability"):
        # The first label's logit is always 0.
        weights = np.concatenate([np.zeros_like(weights), weights])
        bias = np.concatenate([np.zeros_like(bias), bias])
    if map_shape is None or map_shape[0] != weights.shape[1]:
        maps = map_shape = None
    ready = {name for name, value in values.items() if value.dtype == np.float32}
    if values[features].ndim != len(("batch", "length")):
        ready.discard(features)
    return Head(features, weights, bias, maps, map_shape, frozenset(ready))


def values_of(
    graph: NetworkGraph, names: Sequence[str], images: NDArray[np.generic]
) -> list[NDArray[np.float32]]:
    """Values inside a graph, as a plain session computes them.

    Args:
        graph: The network.
        names: The values.
        images: Pictures as the network takes them.
    """
    return [np.asarray(value, np.float32) for value in _compute(graph, names, images)]


def _compute(
    graph: NetworkGraph, names: Sequence[str], images: NDArray[np.generic]
) -> list[NDArray[np.generic]]:
    copy = onnx.ModelProto()
    copy.CopyFrom(graph.model)
    known = {value.name for value in copy.graph.output}
    copy.graph.output.extend(
        helper.make_empty_tensor_value_info(n) for n in names if n not in known
    )
    options = ort.SessionOptions()
    options.log_severity_level = _LOG_ERRORS_ONLY
    session = ort.InferenceSession(
        copy.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return [np.asarray(value) for value in session.run(list(names), {graph.input.name: images})]


_Found = tuple[str, NDArray[np.float32], NDArray[np.float32], str | None]


class _HeadReader:
    def __init__(self, model: onnx.ModelProto) -> None:
        self._makers = {name: node for node in model.graph.node for name in node.output}
        self._constants = {one.name: one for one in model.graph.initializer}

    def read(self, logits: str) -> _Found | None:
        node = self._maker(logits)
        bias = None
        if node is not None and node.op_type == "Add":
            bias = next(filter(_is_given, map(self._constant, node.input)), None)
            node = next(filter(None, map(self._maker, node.input)), None)
        if node is None or node.op_type not in ("Gemm", "MatMul"):
            return None
        weights = self._constant(node.input[1])
        if weights is None or weights.ndim != 2:
            return None
        attributes = {one.name: helper.get_attribute_value(one) for one in node.attribute}
        if any(attributes.get(name, 1.0) != 1.0 for name in ("alpha", "beta")):
            return None
        if not attributes.get("transB", 0):
            weights = weights.T
        if node.op_type == "Gemm" and len(node.input) > 2:
            bias = self._constant(node.input[2])
        bias = np.zeros(len(weights), np.float32) if bias is None else bias.reshape(-1)
        features = str(node.input[0])
        return features, np.ascontiguousarray(weights), bias, self._maps(features)

    def _maps(self, features: str) -> str | None:
        """The maps whose means a value is."""
        node = self._maker(features)
        if node is None:
            return None
        if node.op_type == "GlobalAveragePool":
            return str(node.input[0])
        if node.op_type != "ReduceMean":
            return None
        axes = next((list(one.ints) for one in node.attribute if one.name == "axes"), None)
        if axes is None and len(node.input) > 1:
            constant = self._constants.get(node.input[1])
            axes = None if constant is None else numpy_helper.to_array(constant).tolist()
        return str(node.input[0]) if axes and set(axes) in _TWO_DIMENSIONS else None

    def _maker(self, name: str) -> NodeProto | None:
        """The node that computed a value, behind those that only change its form."""
        node = self._makers.get(name)
        while node is not None and node.op_type in _PASSING:
            node = self._makers.get(node.input[0])
        return node

    def _constant(self, name: str) -> NDArray[np.float32] | None:
        if name in self._constants:
            return np.asarray(numpy_helper.to_array(self._constants[name]), np.float32)
        node = self._makers.get(name)
        if node is None:
            return None
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            return np.asarray(numpy_helper.to_array(node.attribute[0].t), np.float32)
        if node.op_type in ("Identity", "Cast"):
            return self._constant(node.input[0])
        if node.op_type == "Transpose":
            inner = self._constant(node.input[0])
            return inner.T if inner is not None and inner.ndim == 2 else None
        return None


def _is_given(constant: NDArray[np.float32] | None) -> bool:
    return constant is not None
