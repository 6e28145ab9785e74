"""What every served ONNX graph keeps to, so that ONNX Runtime runs it anywhere, and Triton too."""

import numpy as np
import onnx
from onnx import TensorProto, helper

from convd.artifact.graph_contract import IMAGE, OPTIONAL, REQUIRED, Axis, GraphTensor
from convd.artifact.preprocessing import Preprocessing
from convd.export.errors import ConversionError

_STANDARD_DOMAINS = {"", "ai.onnx"}


def check_serving_model(model: onnx.ModelProto, preprocessing: Preprocessing, classes: int) -> None:
    """Check what serving relies on.

    Args:
        model: The graph.
        preprocessing: Gives the shape of its input.
        classes: Number of labels.

    Raises:
        ConversionError: An operator is not standard, the batch size is frozen, the graph is not
            valid ONNX, or an input or output has another name, type or shape than serving expects.
    """
    domains = {node.domain for node in _all_nodes(model)} - _STANDARD_DOMAINS
    if domains:
        raise ConversionError(
            f"the graph has operators of {', '.join(sorted(domains))}; only standard ONNX "
            "operators run everywhere: replace the layers that need them"
        )
    try:
        onnx.checker.check_model(model, full_check=True)
    # Shape inference raises a class of its own, beside those of the checker.
    except Exception as error:
        raise ConversionError(
            f"the graph is not valid ONNX: {str(error).splitlines()[0]}"
        ) from error
    height, width, channels = preprocessing.output_shape
    sizes: dict[Axis, int] = {
        "height": height,
        "width": width,
        "channels": channels,
        "classes": classes,
    }
    values = [*model.graph.input, *model.graph.output]
    there = {value.name for value in values}
    expected = [IMAGE, *REQUIRED, *(output for output in OPTIONAL if output.name in there)]
    if [value.name for value in values] != [tensor.name for tensor in expected]:
        names = ", ".join(value.name for value in values)
        wanted = ", ".join(tensor.name for tensor in expected)
        raise ConversionError(f"the graph's inputs and outputs are {names}, not {wanted}")
    for value, tensor in zip(values, expected, strict=True):
        _check_value(value, tensor, sizes)


def _check_value(value: onnx.ValueInfoProto, expected: GraphTensor, sizes: dict[Axis, int]) -> None:
    element_type = helper.np_dtype_to_tensor_dtype(np.dtype(expected.dtype))
    tensor = value.type.tensor_type
    dimensions = tensor.shape.dim
    if tensor.elem_type != element_type:
        raise ConversionError(
            f"{value.name!r} is {TensorProto.DataType.Name(tensor.elem_type)}, not "
            f"{TensorProto.DataType.Name(element_type)}"
        )
    if not dimensions or dimensions[0].HasField("dim_value"):
        raise ConversionError(
            f"the batch size of {value.name!r} is frozen: the network must not use x.shape[0] as a "
            "number; write x.flatten(1) instead of x.view(2, -1)"
        )
    found = [dimension.dim_value for dimension in dimensions[1:]]
    # The network alone decides the sizes that neither pictures nor labels give.
    row = [sizes.get(axis, size) for axis, size in zip(expected.axes, found, strict=False)]
    if len(found) != len(expected.axes) or found != row or not all(found):
        shape = ", ".join(str(sizes.get(axis, axis)) for axis in expected.axes)
        raise ConversionError(f"{value.name!r} has rows of {found}, not [{shape}]")


def _all_nodes(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """Nodes of the graph and of every graph inside it."""
    nodes: list[onnx.NodeProto] = []
    waiting = [model.graph]
    while waiting:
        for node in waiting.pop().node:
            nodes.append(node)
            for attribute in node.attribute:
                waiting += [attribute.g] if attribute.HasField("g") else []
                waiting += attribute.graphs
    for function in model.functions:
        nodes += function.node
    return nodes
