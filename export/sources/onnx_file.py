"""Networks that are ONNX files already, from whatever made them."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import onnxruntime as ort
import torch
from onnx import TensorProto
from torch import Tensor, nn

from convd.artifact.preprocessing import ChannelOrder, Preprocessing, ResizeTo
from convd.export.errors import ExportError, SourceError
from convd.export.graph.network_graph import ImageInput, NetworkGraph
from convd.runtime.cpu import CPU

_ELEMENT_TYPES = {TensorProto.FLOAT: torch.float32, TensorProto.UINT8: torch.uint8}


class OnnxNetwork(nn.Module):
    """A foreign graph in the place of a PyTorch network: it runs the file itself, unchanged.

    Args:
        model: The foreign graph, to convert.
        path: The file, to run: the reference is what a plain session of it answers.

    Raises:
        SourceError: It is no classifier of pictures, or its batch size is frozen.
    """

    def __init__(self, model: onnx.ModelProto, path: Path) -> None:
        super().__init__()
        self.model = model
        self.graph = NetworkGraph(model, _image_input(model.graph), _output_name(model.graph))
        self.train(False)
        self._session = ort.InferenceSession(path, providers=[CPU.name])

    @property
    def parameters_count(self) -> int:
        """Number of numbers in its floating-point constants."""
        return sum(
            int(np.prod(constant.dims))
            for constant in self.model.graph.initializer
            if constant.data_type == TensorProto.FLOAT
        )

    def forward(self, x: Tensor) -> Tensor:
        """What the file answers, whatever that is.

        Args:
            x: What the graph takes, with channels first: normalised float32 or uint8
                `[batch, channels, height, width]`.
        """
        given = self.graph.input
        if given.channels_last:
            x = x.permute(0, 2, 3, 1)
        (output,) = self._session.run([self.graph.output], {given.name: x.contiguous().numpy()})
        return torch.from_numpy(output)


class OnnxInput(NamedTuple):
    """A foreign graph and the recipe that its input suggests, None where its size is dynamic."""

    network: OnnxNetwork
    preprocessing: Preprocessing | None


def read_onnx_file(path: Path, *, channel_order: ChannelOrder | None) -> OnnxInput:
    """Read an ONNX file.

    Raises:
        SourceError: It is missing, damaged, no classifier of pictures, or its batch is frozen.
    """
    if not path.is_file():
        raise SourceError(f"{path} does not exist")
    try:
        network = OnnxNetwork(onnx.load(path), path)
    except ExportError:
        raise
    # Parsing raises protobuf's errors, external data the system's, loading ONNX Runtime's.
    except Exception as error:
        raise SourceError(f"{path} cannot be read as ONNX: {error}") from error
    given = network.graph.input
    if given.height is None or given.width is None:
        return OnnxInput(network, None)
    order: ChannelOrder = "L" if given.channels == 1 else channel_order or "RGB"
    recipe = Preprocessing(
        resize=ResizeTo(height=given.height, width=given.width), channel_order=order
    )
    return OnnxInput(network, recipe)


def _image_input(graph: onnx.GraphProto) -> ImageInput:
    constants = {constant.name for constant in graph.initializer}
    inputs = [value for value in graph.input if value.name not in constants]
    if len(inputs) != 1:
        names = ", ".join(value.name for value in inputs)
        raise SourceError(
            f"the graph takes {len(inputs)} inputs ({names}): it must take one picture"
        )
    (value,) = inputs
    tensor = value.type.tensor_type
    if tensor.elem_type not in _ELEMENT_TYPES:
        raise SourceError(
            f"{value.name!r} is {TensorProto.DataType.Name(tensor.elem_type)}: it must be float32 "
            "or uint8"
        )
    sizes = [
        dimension.dim_value if dimension.HasField("dim_value") else None
        for dimension in tensor.shape.dim
    ]
    if len(sizes) != 4:
        raise SourceError(
            f"{value.name!r} has {len(sizes)} dimensions: it must be [batch, "
            "channels, height, width]"
        )
    if sizes[0] is not None:
        raise SourceError(
            f"the batch size of {value.name!r} is frozen at {sizes[0]}: export the file again with "
            f"a dynamic batch, with PyTorch dynamic_shapes=({{0: 'batch'}},)"
        )
    channels_last = sizes[1] not in (1, 3) and sizes[3] in (1, 3)
    channels, height, width = sizes[1:] if not channels_last else (sizes[3], *sizes[1:3])
    if channels not in (1, 3):
        raise SourceError(
            f"{value.name!r} has shape {['batch', *sizes[1:]]}: it must have 1 or 3 channels"
        )
    return ImageInput(value.name, tensor.elem_type, channels_last, channels, height, width)


def _output_name(graph: onnx.GraphProto) -> str:
    if len(graph.output) != 1:
        names = ", ".join(value.name for value in graph.output)
        raise SourceError(
            f"the graph has {len(graph.output)} outputs ({names}): it must have one, [batch, "
            "classes]; cut the others with onnx.utils.extract_model"
        )
    return str(graph.output[0].name)
