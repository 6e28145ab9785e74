"""What every served ONNX graph keeps to, so that ONNX Runtime runs it anywhere, and Triton too."""

import onnx
from onnx import TensorProto

from convd.artifact.preprocessing import Preprocessing
from convd.export.errors import ConversionError

INPUT = "image"
OUTPUTS = ("probabilities", "logits")

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
    expected = {
        INPUT: (TensorProto.UINT8, [height, width, channels]),
        **dict.fromkeys(OUTPUTS, (TensorProto.FLOAT, [classes])),
    }
    values = [*model.graph.input, *model.graph.output]
    if [value.name for value in values] != list(expected):
        names = ", ".join(value.name for value in values)
        raise ConversionError(f"the graph's inputs and outputs are {names}, not {list(expected)}")
    for value in values:
        _check_value(value, *expected[value.name])


def _check_value(value: onnx.ValueInfoProto, element_type: int, row: list[int]) -> None:
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
    if found != row:
        raise ConversionError(f"{value.name!r} has rows of {found}, not {row}")


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
