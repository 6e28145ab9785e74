"""From a PyTorch network to ONNX."""

import contextlib
import logging
import re
import warnings
from collections.abc import Iterator
from pathlib import Path

import onnx
import torch
from torch import nn
from torch.export import Dim, ExportedProgram

from convd.artifact.preprocessing import Preprocessing
from convd.export.errors import ConversionError
from convd.export.graph.frozen_batch import find_freezing_line
from convd.export.graph.network_graph import ImageInput, NetworkGraph
from convd.export.user_lines import line_of_error

OPSET = 18

_INPUT = "network_input"
_OUTPUT = "network_output"


def convert(
    network: nn.Module, preprocessing: Preprocessing, *, takes_pixels: bool = False
) -> NetworkGraph:
    """Convert a network to ONNX, as it is.

    Args:
        network: The network, in eval mode, from `[batch, channels, height, width]` to one tensor.
        preprocessing: Gives the shape of its input.
        takes_pixels: Whether it takes uint8 pixels; else normalised float32.

    Raises:
        ConversionError: The network cannot be converted with a dynamic batch size.
    """
    height, width, channels = preprocessing.output_shape
    dtype = torch.uint8 if takes_pixels else torch.float32
    example = torch.zeros((2, channels, height, width), dtype=dtype)
    dynamic_shapes = ({0: Dim("batch", min=1)},)
    with _quiet():
        program = _trace(network, example, dynamic_shapes)
        try:
            converted = torch.onnx.export(
                program,
                input_names=[_INPUT],
                output_names=[_OUTPUT],
                opset_version=OPSET,
                dynamo=True,
                external_data=False,
                verbose=False,
            )
        # Whatever the exporter meets, it is this network that it cannot convert.
        except Exception as error:
            raise ConversionError(
                f"PyTorch cannot convert this network to ONNX: {_innermost(error)}"
            ) from error
    if converted is None:
        raise ConversionError("PyTorch's exporter returned nothing")
    element_type = onnx.TensorProto.UINT8 if takes_pixels else onnx.TensorProto.FLOAT
    taken = ImageInput(_INPUT, element_type, False, channels, height, width)
    return NetworkGraph(converted.model_proto, taken, _OUTPUT, converted.exported_program)


def _trace(
    network: nn.Module, example: torch.Tensor, dynamic_shapes: tuple[dict[int, Dim], ...]
) -> ExportedProgram:
    try:
        return torch.export.export(network, (example,), dynamic_shapes=dynamic_shapes, strict=False)
    except torch._dynamo.exc.UserError as error:
        if "specialized" not in str(error):
            raise _untraceable(error) from error
        line = find_freezing_line(network, example, dynamic_shapes)
        raise ConversionError(
            "the network freezes its batch size" + (f" at {line}" if line else "") + "; sizes must "
            "come from x.shape as they are, never from int(x.shape[0]), len(x) or a number: write "
            "x.flatten(1) instead of x.view(2, -1)"
        ) from error
    # The network is the user's code: it may raise anything.
    except Exception as error:
        raise _untraceable(error) from error


def _untraceable(error: Exception) -> ConversionError:
    """What PyTorch says, with the user's line where there is one."""
    own = line_of_error(error) or _line_in_text(str(error))
    where = f" at {own}" if own else ""
    text = _innermost(error).rstrip(".")
    if "data-dependent" in text:
        return ConversionError(
            f"PyTorch cannot trace this network: what it sees chooses the code that runs{where}; "
            "write torch.where instead of if, and leave .item() out"
        )
    return ConversionError(f"PyTorch cannot trace this network{where}: {text}")


def _line_in_text(text: str) -> str | None:
    """The user's line as PyTorch names it, such as `File "/a/net.py", line 7, in forward`."""
    found = re.findall(r'File "([^"]+)", line (\d+)', text)
    return f"{Path(found[-1][0]).name}:{found[-1][1]}" if found else None


def _innermost(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep what the exporter says of its own internals from the user."""
    disabled = logging.root.manager.disable
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(disabled)
