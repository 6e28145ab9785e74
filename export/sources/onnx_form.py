"""Brings a foreign ONNX graph into the form that can be wrapped: one input, one output, any batch.

Nothing here is believed: the reference is a plain session of the file as it is, and what is served
has to give its answers.
"""

from dataclasses import dataclass

import onnx
from onnx import (
    GraphProto,
    ModelProto,
    TensorProto,
    inliner,
    version_converter,
)

from convd.artifact.preprocessing import ChannelOrder
from convd.export.errors import SourceError
from convd.export.graph.network_graph import ImageInput
from convd.export.sources.onnx_batch import make_batch_dynamic

_OLDEST_OPSET = 8
"""In older operator sets the operators that are added in wrapping do not broadcast."""

_GOOD_OPSET = 13
_IR_VERSION = 8
_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE)
_PIXELS = (TensorProto.UINT8, TensorProto.INT32, TensorProto.INT64)


@dataclass(frozen=True)
class OnnxForm:
    """A foreign graph in the form that can be wrapped.

    Attributes:
        model: The graph, with a dynamic batch.
        input: Its input.
        batch: Batch size that the file itself is fixed to; None where it takes any.
        output: Name of the output in the graph.
        file_output: Name of the file's own output that has the same numbers.
        labels: Class names of a ZipMap; None where there is none.
    """

    model: ModelProto
    input: ImageInput
    batch: int | None
    output: str
    file_output: str
    labels: tuple[str, ...] | None


def read_form(file: ModelProto, order: ChannelOrder | None, output: str | None) -> OnnxForm:
    """Find a graph's input and output, and make its batch dynamic.

    Args:
        file: The model as it is in the file; it stays as it is.
        order: The channel order that the user gives.
        output: The output that the user chooses; None where there is one.

    Raises:
        SourceError: The graph is no classifier of pictures, or cannot be converted.
    """
    model = ModelProto()
    model.CopyFrom(file)
    model = _modernised(model)
    value = _input(model.graph)
    batch, given = _image_input(value, order)
    file_output, name, labels = _output(model, output)
    batch = make_batch_dynamic(model, given, name, batch)
    return OnnxForm(model, given, batch, name, file_output, labels)


def _modernised(model: ModelProto) -> ModelProto:
    """Inline local functions, and convert what is too old."""
    if model.functions:
        model = inliner.inline_local_functions(model)
    constants = {constant.name for constant in model.graph.initializer}
    kept = [value for value in model.graph.input if value.name not in constants]
    del model.graph.input[:]
    model.graph.input.extend(kept)
    model.ir_version = max(model.ir_version, _IR_VERSION)
    opset = next((one.version for one in model.opset_import if one.domain in ("", "ai.onnx")), 0)
    if opset >= _GOOD_OPSET or {one.domain for one in model.opset_import} - {"", "ai.onnx"}:
        return model
    try:
        return version_converter.convert_version(model, _GOOD_OPSET)
    # The converter raises nearly anything at operators that it does not know.
    except Exception as error:
        if opset >= _OLDEST_OPSET:
            return model
        raise SourceError(
            f"the file uses operator set {opset}, and onnx cannot convert it "
            f"({str(error).splitlines()[0]}): export it again with a newer one"
        ) from error


def _input(graph: GraphProto) -> onnx.ValueInfoProto:
    if len(graph.input) != 1:
        names = ", ".join(value.name for value in graph.input)
        raise SourceError(
            f"the graph takes {len(graph.input)} inputs ({names}): it must take one picture"
        )
    return graph.input[0]


def _image_input(
    value: onnx.ValueInfoProto, order: ChannelOrder | None
) -> tuple[int | None, ImageInput]:
    """The batch size that an input is fixed to, and the input."""
    tensor = value.type.tensor_type
    if tensor.elem_type not in (*_FLOATS, *_PIXELS):
        raise SourceError(
            f"{value.name!r} is {TensorProto.DataType.Name(tensor.elem_type)}: it must be a float "
            "or uint8"
        )
    dimensions = tensor.shape.dim
    sizes = [one.dim_value if one.dim_value > 0 else None for one in dimensions]
    if len(sizes) != 4:
        raise SourceError(
            f"{value.name!r} has {len(sizes)} dimensions: it must be [batch, channels, height, "
            "width]"
        )
    names = [one.dim_param.lower() for one in dimensions]
    last = (sizes[1] not in (1, 3) and sizes[3] in (1, 3)) or "channel" in names[3]
    channels, height, width = (sizes[3], *sizes[1:3]) if last else sizes[1:]
    if channels is None and order is not None:
        channels = 1 if order == "L" else 3
    if channels is None:
        raise SourceError(
            f"the number of channels of {value.name!r} is dynamic: give --channel-order RGB, BGR "
            "or L"
        )
    if channels not in (1, 3):
        raise SourceError(f"{value.name!r} has {channels} channels: it must have 1 or 3")
    return sizes[0], ImageInput(value.name, tensor.elem_type, last, channels, height, width)


def _output(model: ModelProto, chosen: str | None) -> tuple[str, str, tuple[str, ...] | None]:
    """The file's output, the value in the graph that has its numbers, and its labels."""
    graph = model.graph
    names = [value.name for value in graph.output]
    maps = {node.output[0]: node for node in graph.node if node.op_type == "ZipMap"}
    if chosen is not None:
        if chosen not in names:
            raise SourceError(f"the graph has no output {chosen!r}: it has {', '.join(names)}")
        names = [chosen]
    elif len(names) > 1:
        mapped = [name for name in names if name in maps]
        floats = [
            value.name for value in graph.output if value.type.tensor_type.elem_type in _FLOATS
        ]
        names = mapped or (floats if len(floats) == 1 else names)
    if len(names) != 1:
        raise SourceError(
            f"the graph has {len(names)} outputs ({', '.join(names)}): choose one with --output "
            f"{names[0] if names else 'NAME'}"
        )
    (name,) = names
    if name not in maps:
        return name, name, None
    node = maps[name]
    labels: list[bytes] = next(
        (list(each.strings) for each in node.attribute if each.name == "classlabels_strings"), []
    )
    return name, str(node.input[0]), tuple(label.decode() for label in labels) or None
