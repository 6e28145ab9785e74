"""A network in 8-bit integers: static quantisation, with its scales in the graph (QDQ)."""

import contextlib
import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

from convd.artifact.graph_contract import IMAGE
from convd.export.errors import ConversionError
from convd.export.progress import Advance

MAX_EXAMPLES = 256
"""More pictures do not change the ranges of the activations any further."""

_WEIGHTED = ("Conv", "Gemm", "MatMul")
_OPERATORS = [
    *_WEIGHTED,
    "Add",
    "AveragePool",
    "Clip",
    "Concat",
    "GlobalAveragePool",
    "MaxPool",
    "Mul",
    "Relu",
]


def to_int8(
    model: onnx.ModelProto, batches: Iterator[NDArray[np.uint8]], advance: Advance = lambda _: None
) -> onnx.ModelProto:
    """Quantise activations to uint8, and weights to int8 with one scale per channel.

    Weights take 7 of the 8 bits, -64 to 64, so that the answers are the same on every processor.

    The last layer stays in float32, since its outputs are what softmax and temperature work on.

    Args:
        model: A served graph in float32.
        batches: Pictures on which the ranges of the activations are measured, uint8 `[batch,
            height, width, channels]`.
        advance: Told how many more pictures are done.

    Raises:
        ConversionError: The graph cannot be quantised.
    """
    with tempfile.TemporaryDirectory() as folder, _quiet():
        given, prepared, quantized = (
            Path(folder, f"{name}.onnx") for name in ("given", "prepared", "quantized")
        )
        onnx.save(model, given)
        try:
            # Folds batch normalisation into convolutions, which a foreign file may not have done.
            quant_pre_process(given, prepared, skip_symbolic_shape=True)
            quantize_static(
                prepared,
                quantized,
                _Pictures(batches, advance),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=_OPERATORS,
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                # Sums of two products of uint8 and int8 then fit 16 bits. Without VNNI, AVX2 and
                # AVX-512 add two such products in 16 bits and saturate (vpmaddubsw).
                reduce_range=True,
                nodes_to_exclude=_last_weighted_node(onnx.load(prepared)),
                calibrate_method=CalibrationMethod.MinMax,
            )
        # Whatever the quantiser meets, it is this network that cannot be quantised.
        except Exception as error:
            raise ConversionError(
                f"the network cannot be quantised: {str(error).splitlines()[0]}; export it with "
                "--precision float32"
            ) from error
        converted = onnx.load(quantized)
    if not any(node.op_type == "QuantizeLinear" for node in converted.graph.node):
        raise ConversionError(
            "the network has no operators to quantise: export it with --precision float32"
        )
    return converted


class _Pictures(CalibrationDataReader):  # type: ignore[misc]
    """Feeds pictures to the quantiser."""

    def __init__(self, batches: Iterator[NDArray[np.uint8]], advance: Advance) -> None:
        self._batches = batches
        self._advance = advance

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        """The next batch, or None at the end."""
        batch = next(self._batches, None)
        if batch is None:
            return None
        self._advance(len(batch))
        return {IMAGE.name: batch}


def _last_weighted_node(model: onnx.ModelProto) -> list[str]:
    nodes = [node.name for node in model.graph.node if node.op_type in _WEIGHTED]
    return nodes[-1:]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hide the quantiser's hints on preparing a model, which is already prepared."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(disabled)
