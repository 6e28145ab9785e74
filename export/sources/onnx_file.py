"""Networks that are ONNX files already, from whatever made them."""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper
from torch import Tensor, nn

from convd.artifact.preprocessing import ChannelOrder, Preprocessing, ResizeTo
from convd.export.errors import ConversionError, SourceError
from convd.runtime.cpu import CPU
from convd.runtime.session import open_session

_ELEMENT_TYPES = {TensorProto.FLOAT: torch.float32, TensorProto.UINT8: torch.uint8}
_PASSING = ("Identity", "Cast", "Flatten", "Reshape", "Squeeze")
"""Operators that may stand between a softmax and the output without changing any number."""


@dataclass(frozen=True)
class ImageInput:
    """The input of a foreign graph.

    Attributes:
        name: Its name.
        takes_pixels: Whether it is uint8, so that the graph normalises by itself.
        channels_last: Whether it is `[batch, height, width, channels]`.
        channels: 1 or 3.
        height: In pixels; None where it is dynamic.
        width: In pixels; None where it is dynamic.
    """

    name: str
    takes_pixels: bool
    channels_last: bool
    channels: int
    height: int | None
    width: int | None


class OnnxNetwork(nn.Module):
    """A foreign graph in the place of a PyTorch network: the reference is the file itself.

    It cannot be traced; `convd.export.onnx_wrapping` makes the served graph of it.

    Args:
        model: The foreign graph.

    Raises:
        SourceError: It is no classifier of pictures, or its batch size is frozen.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        super().__init__()
        self.model = model
        self.input = _image_input(model.graph)
        self.output_name = _output_name(model.graph)
        self.logits_name = _before_softmax(model.graph, self.output_name)
        self.train(False)
        with_logits = onnx.ModelProto()
        with_logits.CopyFrom(model)
        if self.logits_name != self.output_name:
            value = helper.make_tensor_value_info(self.logits_name, TensorProto.FLOAT, None)
            with_logits.graph.output.append(value)
        self._session = open_session(with_logits.SerializeToString(), CPU)
        self.gives_probabilities = False
        self.gives_probabilities = (
            self.logits_name == self.output_name and self._are_probabilities()
        )

    @property
    def parameters_count(self) -> int:
        """Number of numbers in its floating-point constants."""
        return sum(
            int(np.prod(constant.dims))
            for constant in self.model.graph.initializer
            if constant.data_type == TensorProto.FLOAT
        )

    def forward(self, x: Tensor) -> Tensor:
        """Logits of pictures.

        Args:
            x: What the graph takes, with channels first: normalised float32 or uint8
                `[batch, channels, height, width]`.

        Returns:
            float32 `[batch, classes]`: what goes into the graph's softmax, or what comes out of it
            as logarithms where the softmax itself cannot be found.
        """
        if self.input.channels_last:
            x = x.permute(0, 2, 3, 1)
        (output,) = self._session.run([self.logits_name], {self.input.name: x.numpy()})
        logits = torch.from_numpy(output)
        if self.gives_probabilities:
            logits = logits.clamp(min=torch.finfo(torch.float32).tiny).log()
        return logits.flatten(1) if logits.ndim > 1 else logits

    def _are_probabilities(self) -> bool:
        """Whether rows are positive and sum to 1, for a softmax that is written in other words."""
        size = (self.input.height or 224, self.input.width or 224)
        generator = torch.Generator().manual_seed(0)
        pixels = torch.randint(0, 256, (2, self.input.channels, *size), generator=generator)
        images = pixels.to(torch.uint8) if self.input.takes_pixels else pixels / 255
        try:
            output = self(images)
        # Whatever is wrong with the graph, the checks of the network will say it in their turn.
        except Exception:
            return False
        return bool((output >= 0).all() and ((output.sum(dim=1) - 1).abs() < 1e-3).all())


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
        network = OnnxNetwork(onnx.load(path))
    except (SourceError, ConversionError):
        raise
    # Parsing raises protobuf's errors, external data the system's, loading ONNX Runtime's.
    except Exception as error:
        raise SourceError(f"{path} cannot be read as ONNX: {error}") from error
    given = network.input
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
    takes_pixels = tensor.elem_type == TensorProto.UINT8
    return ImageInput(value.name, takes_pixels, channels_last, channels, height, width)


def _output_name(graph: onnx.GraphProto) -> str:
    if len(graph.output) != 1:
        names = ", ".join(value.name for value in graph.output)
        raise SourceError(
            f"the graph has {len(graph.output)} outputs ({names}): it must have one, [batch, "
            "classes]; cut the others with onnx.utils.extract_model"
        )
    return str(graph.output[0].name)


def _before_softmax(graph: onnx.GraphProto, output: str) -> str:
    """Name of what goes into the softmax at the graph's end, or the output where there is none."""
    makers = {name: node for node in graph.node for name in node.output}
    name = output
    while name in makers:
        node = makers[name]
        if node.op_type == "Softmax":
            return str(node.input[0])
        if node.op_type not in _PASSING:
            break
        name = node.input[0]
    return output
