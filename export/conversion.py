"""From a PyTorch graph to ONNX, with what serving relies on checked."""

import contextlib
import io
import logging
import warnings

import onnx
import torch

from artifact.preprocessing import Preprocessing
from export.errors import ConversionError
from export.graph import ServingGraph

OPSET = 18
_STANDARD_DOMAINS = {"", "ai.onnx"}


def convert(graph: ServingGraph, preprocessing: Preprocessing, classes: int) -> bytes:
    """Convert to ONNX.

    Args:
        graph: The graph, in eval mode.
        preprocessing: Gives the shape of its input.
        classes: Number of classes.

    Returns:
        An ONNX file with input `image`, uint8 `[batch, height, width, channels]`, and outputs
        `probabilities` and `logits`, float32 `[batch, classes]`; standard operators only.

    Raises:
        ConversionError: The network is in training mode, cannot be converted, has a frozen batch
            size, or does not answer one row of classes for each picture.
    """
    _check_eval_mode(graph)
    example = torch.zeros((2, *preprocessing.output_shape), dtype=torch.uint8)
    _check_output(graph, example, classes)
    batch = torch.export.Dim("batch", min=1)
    try:
        # The exporter reports its progress on standard output, and warns of its own internals.
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for chatty in ("onnxscript", "torch.onnx"):
                logging.getLogger(chatty).setLevel(logging.ERROR)
            program = torch.onnx.export(
                graph,
                (example,),
                input_names=["image"],
                output_names=["probabilities", "logits"],
                dynamic_shapes={"image": {0: batch}},
                opset_version=OPSET,
                dynamo=True,
                external_data=False,
            )
    # Whatever the exporter meets in a foreign network, it is that network that cannot be converted.
    except Exception as error:
        raise ConversionError(
            f"PyTorch cannot export this network with a dynamic batch size: {_innermost(error)}"
        ) from error
    if program is None:
        raise ConversionError("PyTorch's exporter returned nothing")
    model = program.model_proto
    check_serving_model(model, classes)
    return bytes(model.SerializeToString())


def check_serving_model(model: onnx.ModelProto, classes: int) -> None:
    """Check what serving relies on.

    Raises:
        ConversionError: An operator is not standard, the batch size is frozen, or an output has
            another shape than `[batch, classes]`.
    """
    domains = {node.domain for node in model.graph.node} - _STANDARD_DOMAINS
    if domains:
        raise ConversionError(
            f"the graph has operators of {', '.join(sorted(domains))}; only standard ONNX "
            "operators run everywhere"
        )
    for value in (*model.graph.input, *model.graph.output):
        dimensions = value.type.tensor_type.shape.dim
        if not dimensions or dimensions[0].HasField("dim_value"):
            raise ConversionError(
                f"the batch size of {value.name!r} is frozen: the network must not use "
                "x.shape[0] as a number; write x.flatten(1) instead of x.view(2, -1)"
            )
    for value in model.graph.output:
        shape = [dimension.dim_value for dimension in value.type.tensor_type.shape.dim]
        if shape[1:] != [classes]:
            raise ConversionError(f"{value.name!r} is {shape}, not [batch, {classes}]")


def _check_eval_mode(graph: ServingGraph) -> None:
    training = [name for name, module in graph.named_modules() if module.training]
    if training:
        raise ConversionError(
            f"{training[-1] or 'the network'} is in training mode, so its answers would be random: "
            "call network.eval() first"
        )


def _check_output(graph: ServingGraph, example: torch.Tensor, classes: int) -> None:
    with torch.inference_mode():
        try:
            _, logits = graph(example)
        # The network is the user's code: it may raise anything.
        except Exception as error:
            raise ConversionError(
                f"the network fails on a picture of {list(example.shape[1:])}: {error}"
            ) from error
    if tuple(logits.shape) != (len(example), classes):
        raise ConversionError(
            f"the network answers {list(logits.shape)} to {len(example)} pictures, not "
            f"[{len(example)}, {classes}]: it must give one row of {classes} logits for each; "
            "are the labels those of this network?"
        )
    if not torch.isfinite(logits).all():
        raise ConversionError(
            "the network answers NaN or infinity: its weights are damaged; export an earlier "
            "checkpoint"
        )


def _innermost(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
