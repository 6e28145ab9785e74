"""A network in 16-bit floats, for GPUs."""

import onnx
from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16

_FLOAT32_OPERATORS = ["Cast", "Div", "Sub", "Softmax"]
"""Normalisation and softmax cost nothing and lose the most."""


def to_float16(model: onnx.ModelProto) -> onnx.ModelProto:
    """Convert weights and arithmetic to float16; input and outputs stay as they are.

    Args:
        model: A served graph in float32.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    converted: onnx.ModelProto = convert_float_to_float16(
        copy, keep_io_types=True, op_block_list=[*DEFAULT_OP_BLOCK_LIST, *_FLOAT32_OPERATORS]
    )
    return converted
