"""A network in 8-bit integers: static quantisation, with its scales in the graph (QDQ)."""

import contextlib
import logging
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.calibrate import TensorsData, save_tensors_data
from onnxruntime.quantization.quant_utils import load_model_with_shape_infer
from onnxruntime.quantization.shape_inference import quant_pre_process

from convd.export.activation_ranges import Range
from convd.export.errors import ConversionError

_WEIGHTED = ("Conv", "Gemm", "MatMul")
OPERATORS = (
    *_WEIGHTED,
    "Add",
    "AveragePool",
    "Clip",
    "Concat",
    "GlobalAveragePool",
    "MaxPool",
    "Mul",
    "Relu",
)
"""Types of the operators that are quantised."""


def prepare(model: onnx.ModelProto) -> onnx.ModelProto:
    """Infer all shapes, and fold batch normalisation, which a foreign file may not have done.

    Args:
        model: A served graph in float32.

    Raises:
        ConversionError: The graph cannot be quantised.
    """
    with _files("given", "prepared") as (given, prepared), _refused():
        onnx.save(model, given)
        quant_pre_process(given, prepared, skip_symbolic_shape=True)
        inferred: onnx.ModelProto = load_model_with_shape_infer(prepared)
        return inferred


def to_int8(prepared: onnx.ModelProto, ranges: Mapping[str, Range]) -> onnx.ModelProto:
    """Quantise activations to uint8, and weights to int8 with one scale per channel.

    Weights take 7 of the 8 bits, -64 to 64, so that the answers are the same on every processor.

    The last layer stays in float32, since its outputs are what softmax and temperature work on.

    Args:
        prepared: A graph from `prepare`.
        ranges: The smallest and the largest value of each activation, by its name.

    Raises:
        ConversionError: The graph cannot be quantised.
    """
    measured = {name: (np.float32(low), np.float32(high)) for name, (low, high) in ranges.items()}
    with _files("prepared", "ranges", "quantized") as (given, cache, quantized), _refused():
        onnx.save(prepared, given)
        save_tensors_data(TensorsData(CalibrationMethod.MinMax, measured), cache)
        quantize_static(
            given,
            quantized,
            None,
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(OPERATORS),
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            # Sums of two products of uint8 and int8 then fit 16 bits. Without VNNI, AVX2 and
            # AVX-512 add two such products in 16 bits and saturate (vpmaddubsw).
            reduce_range=True,
            nodes_to_exclude=_last_weighted_node(prepared),
            calibrate_method=CalibrationMethod.MinMax,
            calibration_cache_path=cache,
        )
        converted = onnx.load(quantized)
    if not any(node.op_type == "QuantizeLinear" for node in converted.graph.node):
        raise ConversionError(
            "the network has no operators to quantise: export it with --precision float32"
        )
    return converted


def _last_weighted_node(model: onnx.ModelProto) -> list[str]:
    nodes = [node.name for node in model.graph.node if node.op_type in _WEIGHTED]
    return nodes[-1:]


@contextlib.contextmanager
def _files(*names: str) -> Iterator[list[Path]]:
    """Paths in a folder that exists inside the context."""
    with tempfile.TemporaryDirectory() as folder:
        yield [Path(folder, name) for name in names]


@contextlib.contextmanager
def _refused() -> Iterator[None]:
    """Whatever the quantiser meets, it is this network that cannot be quantised.

    Hides its hints on preparing a model, which is already prepared.
    """
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    except Exception as error:
        raise ConversionError(
            f"the network cannot be quantised: {str(error).splitlines()[0]}; export it with "
            "--precision float32"
        ) from error
    finally:
        logging.disable(disabled)
