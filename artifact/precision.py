"""The precisions in which networks are stored and computed."""

from typing import Literal

Precision = Literal["float32", "float16", "bfloat16", "int8"]
