"""The user's network as ONNX, before anything is put around it."""

from dataclasses import dataclass

import onnx
from torch.export import ExportedProgram

_INTEGERS = (onnx.TensorProto.UINT8, onnx.TensorProto.INT32, onnx.TensorProto.INT64)


@dataclass(frozen=True)
class ImageInput:
    """The input of a network as ONNX.

    Attributes:
        name: Its name.
        element_type: ONNX type of its elements; integers where the network normalises by itself.
        channels_last: Whether it is `[batch, height, width, channels]`.
        channels: 1 or 3.
        height: In pixels; None where it is dynamic.
        width: In pixels; None where it is dynamic.
    """

    name: str
    element_type: int
    channels_last: bool
    channels: int
    height: int | None
    width: int | None

    @property
    def takes_pixels(self) -> bool:
        """Whether nothing normalises the picture before it."""
        return self.element_type in _INTEGERS


@dataclass(frozen=True)
class NetworkGraph:
    """A network as ONNX.

    Attributes:
        model: The graph, with a dynamic batch.
        input: Its input.
        output: Name of its output.
        program: What PyTorch traced, whose values have the names of the graph's; None where the
            network was ONNX already.
    """

    model: onnx.ModelProto
    input: ImageInput
    output: str
    program: ExportedProgram | None = None

    @property
    def rounds_to_half(self) -> bool:
        """Whether its own outputs are float16, and so its own activation."""
        return any(
            value.name == self.output
            and value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT16
            for value in self.model.graph.output
        )
