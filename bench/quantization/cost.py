"""What it costs to quantise a large network: `python -m bench.quantization.cost MODEL.onnx`."""

import json
import sys
import time
from pathlib import Path

import numpy as np
import onnx

from convd.export.activation_ranges import MAX_EXAMPLES
from convd.export.range_choice import quantize

COMPARED = 128


def main(path: str) -> None:
    """Quantise a network with pictures of noise; print seconds, and bytes of memory at most."""
    model = onnx.load(path)
    shape = [size.dim_value for size in model.graph.input[0].type.tensor_type.shape.dim[1:]]
    random = np.random.default_rng(0)
    before = _peak_bytes()
    started = time.perf_counter()
    quantize(
        model,
        (random.integers(0, 256, shape, dtype=np.uint8) for _ in range(MAX_EXAMPLES)),
        (random.integers(0, 256, shape, dtype=np.uint8) for _ in range(COMPARED)),
    )
    seconds = time.perf_counter() - started
    print(json.dumps({"seconds": seconds, "bytes": _peak_bytes() - before}))


def _peak_bytes() -> int:
    _, _, rest = Path("/proc/self/status").read_text().partition("VmHWM:")
    return int(rest.split(maxsplit=1)[0]) * 1024


if __name__ == "__main__":
    main(sys.argv[1])
