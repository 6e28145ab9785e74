"""The precisions that networks are stored and computed in."""

from typing import Literal

Precision = Literal["float32", "float16", "bfloat16", "int8"]
