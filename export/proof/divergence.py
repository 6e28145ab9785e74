"""Finds the first layer where a converted network parts from its source."""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto

from convd.artifact.graph_contract import IMAGE
from convd.artifact.manifest import Normalization
from convd.artifact.precision import Precision
from convd.export.graph.network_graph import NetworkGraph
from convd.export.proof.reference import network_input
from convd.runtime.cpu import CPU
from convd.runtime.errors import SessionError
from convd.runtime.provider import ExecutionProvider
from convd.runtime.session import open_session

_LOG = logging.getLogger(__name__)

_RELATIVE_LIMITS: dict[Precision, float] = {
    "float32": 1e-4,
    "float16": 1e-2,
    "bfloat16": 5e-2,
    "int8": 0.2,
}
"""Difference, relative to a layer's largest output, from which on it counts as parted."""


@dataclass(frozen=True)
class Conversion:
    """A network as it was converted.

    Attributes:
        model: The served graph, in float32.
        network: The network before anything was put around it.
        normalization: What its pixels are normalised with.
    """

    model: onnx.ModelProto
    network: NetworkGraph
    normalization: Normalization | None


def first_divergence(
    conversion: Conversion,
    model: onnx.ModelProto,
    images: NDArray[np.uint8],
    provider: ExecutionProvider,
    network_precision: Precision = "float32",
) -> str | None:
    """Compare layer by layer.

    Args:
        conversion: The converted network and what PyTorch traced.
        model: What is published; the converted network itself, or a smaller one made of it.
        images: uint8 `[batch, height, width, channels]`.
        provider: Where the published network runs.
        network_precision: Its precision.

    Returns:
        The layer, its operator and the line of code that it comes from; None where no layer can be
        compared or none differs.
    """
    try:
        expected = _traced_values(conversion, images) or _plain_values(conversion.model, images)
        found = _values(model, images, provider, list(expected), network_precision)
    # This only explains a failure that is reported anyway.
    except Exception as error:
        _LOG.debug("the first diverging layer cannot be found: %s", error)
        return None
    differences = {name: _relative_difference(found[name], expected[name]) for name in found}
    if not differences:
        return None
    # Where no layer stands out, it is the one from which on the difference is as large as it gets.
    limit = min(
        _RELATIVE_LIMITS[provider.computes_in(network_precision)], max(differences.values()) / 2
    )
    for node in model.graph.node:
        if any(differences.get(name, 0.0) > limit for name in node.output):
            return _describe(node)
    return None


def _traced_values(
    conversion: Conversion, images: NDArray[np.uint8]
) -> dict[str, NDArray[np.float32]]:
    """What every traced operator gives in PyTorch, by name."""
    if conversion.network.program is None:
        return {}
    recorder = _Recorder(conversion.network.program.module())
    with torch.inference_mode():
        inputs = torch.from_numpy(network_input(images, conversion.normalization))
        output = recorder.run(inputs)
    return recorder.values | {conversion.network.output: output.numpy()}


class _Recorder(torch.fx.Interpreter):
    """Keeps every floating-point value of a traced network."""

    def __init__(self, module: torch.fx.GraphModule) -> None:
        super().__init__(module)
        self.values: dict[str, NDArray[np.float32]] = {}

    def run_node(self, n: torch.fx.Node) -> Any:  # noqa: ANN401
        value = super().run_node(n)
        if isinstance(value, torch.Tensor) and value.is_floating_point():
            self.values[n.name] = value.numpy()
        return value


def _plain_values(
    model: onnx.ModelProto, images: NDArray[np.uint8]
) -> dict[str, NDArray[np.float32]]:
    """What every node gives on the CPU provider, by name."""
    names = [name for node in model.graph.node for name in node.output]
    return _values(model, images, CPU, names)


def _values(
    model: onnx.ModelProto,
    images: NDArray[np.uint8],
    provider: ExecutionProvider,
    names: list[str],
    precision: Precision = "float32",
) -> dict[str, NDArray[np.float32]]:
    watched = list(_floating_values(model, set(names)))
    outputs = [value.name for value in model.graph.output if value.name in names]
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    copy.graph.output.extend(watched)
    wanted = [value.name for value in watched] + outputs
    try:
        session = open_session(copy.SerializeToString(), provider, precision=precision)
    except SessionError:
        return {}
    values = session.run(wanted, {IMAGE.name: images})
    return dict(zip(wanted, values, strict=True))


def _floating_values(model: onnx.ModelProto, names: set[str]) -> Iterator[onnx.ValueInfoProto]:
    """Values inside the graph that can be made outputs of it."""
    inferred = onnx.shape_inference.infer_shapes(model)
    made = {name for node in model.graph.node for name in node.output}
    inside = names & made - {value.name for value in model.graph.output}
    floating = {TensorProto.FLOAT, TensorProto.FLOAT16}
    for value in inferred.graph.value_info:
        element_type = value.type.tensor_type.elem_type
        if value.name in inside and element_type in floating:
            yield value


def _relative_difference(found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    if found.shape != expected.shape:
        return float("inf")
    scale = max(float(np.abs(expected).max()), 1e-6)
    difference = float(np.abs(found.astype(np.float64) - expected).max()) / scale
    return difference if np.isfinite(difference) else float("inf")


def _describe(node: onnx.NodeProto) -> str:
    """A node in the words of the network's code, where PyTorch has left them."""
    notes: Mapping[str, str] = {note.key: note.value for note in node.metadata_props}
    scopes = notes.get("pkg.torch.onnx.name_scopes", "").strip("[]").replace("'", "").split(", ")
    modules = [scope for scope in scopes[:-1] if scope]
    layer = modules[-1].removeprefix("network.") if modules else node.name or node.output[0]
    code = [line.strip() for line in notes.get("pkg.torch.onnx.stack_trace", "").splitlines()]
    return f"{layer} ({node.op_type})" + (f": {code[-1]}" if code and code[-1] else "")
