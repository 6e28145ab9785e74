"""From a PyTorch graph to ONNX."""

import contextlib
import logging
import warnings
from collections.abc import Iterator
from typing import NamedTuple

import onnx
import torch
from torch.export import Dim, ExportedProgram

from convd.artifact.graph_contract import IMAGE, OUTPUTS
from convd.artifact.preprocessing import Preprocessing
from convd.export.errors import ConversionError
from convd.export.frozen_batch import find_freezing_line
from convd.export.graph import ServingGraph

OPSET = 18


class Conversion(NamedTuple):
    """A converted network.

    Attributes:
        model: The ONNX graph.
        program: What PyTorch traced, whose values have the names of the graph's; None where the
            network was ONNX already.
    """

    model: onnx.ModelProto
    program: ExportedProgram | None


def convert(graph: ServingGraph, preprocessing: Preprocessing) -> Conversion:
    """Convert to ONNX.

    Args:
        graph: The graph, in eval mode.
        preprocessing: Gives the shape of its input.

    Returns:
        A graph with the inputs and outputs of `convd.artifact.graph_contract`.

    Raises:
        ConversionError: The network cannot be converted with a dynamic batch size.
    """
    example = torch.zeros((2, *preprocessing.output_shape), dtype=torch.uint8)
    dynamic_shapes = {IMAGE.name: {0: Dim("batch", min=1)}}
    with _quiet():
        program = _trace(graph, example, dynamic_shapes)
        try:
            converted = torch.onnx.export(
                program,
                input_names=[IMAGE.name],
                output_names=[output.name for output in OUTPUTS],
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
    return Conversion(converted.model_proto, converted.exported_program)


def _trace(
    graph: ServingGraph, example: torch.Tensor, dynamic_shapes: dict[str, dict[int, Dim]]
) -> ExportedProgram:
    try:
        return torch.export.export(graph, (example,), dynamic_shapes=dynamic_shapes, strict=False)
    except torch._dynamo.exc.UserError as error:
        if "specialized" not in str(error):
            raise _untraceable(error) from error
        line = find_freezing_line(graph, example, dynamic_shapes)
        raise ConversionError(
            "the network freezes its batch size" + (f" at {line}" if line else "") + "; sizes must "
            "come from x.shape as they are, never from int(x.shape[0]), len(x) or a number: write "
            "x.flatten(1) instead of x.view(2, -1)"
        ) from error
    # The network is the user's code: it may raise anything.
    except Exception as error:
        raise _untraceable(error) from error


def _untraceable(error: Exception) -> ConversionError:
    """What PyTorch says, with the user's line where it names one."""
    lines = [line.strip() for line in str(error).strip().splitlines()]
    where = [line for line in lines if line.startswith('File "')]
    text = _innermost(error)
    if "data-dependent" in text:
        text += "; answers must not choose the code that runs: write torch.where instead of if"
    line = f" ({where[-1]})" if where else ""
    return ConversionError(f"PyTorch cannot trace this network: {text}{line}")


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
