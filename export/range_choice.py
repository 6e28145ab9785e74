"""Quantises a network with each method of choosing ranges, and keeps the best."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from convd.artifact.graph_contract import IMAGE, OUTPUTS
from convd.export.activation_ranges import RANGE_METHODS, RangeMethod, observe, ranges_by
from convd.export.progress import Advance
from convd.export.quantization import OPERATORS, prepare, to_int8
from convd.runtime.cpu import CPU
from convd.runtime.session import open_session


@dataclass(frozen=True)
class Quantized:
    """An int8 network, and how it was chosen.

    Attributes:
        model: The graph.
        method: How the ranges of its activations were chosen.
        signal_to_noise_db: Of the logits, for each method: power of the float32 network's over
            that of the difference, in decibels.
    """

    model: onnx.ModelProto
    method: RangeMethod
    signal_to_noise_db: Mapping[RangeMethod, float]


def quantize(
    model: onnx.ModelProto,
    examples: Iterable[NDArray[np.uint8]],
    compared: Iterable[NDArray[np.uint8]],
    advance: Advance = lambda _: None,
) -> Quantized:
    """Quantise with each method, and keep the network whose logits are closest to float32's.

    No label is looked at, so the accuracy on evaluation data stays an honest measure.

    Args:
        model: A served graph in float32.
        examples: Pictures on which the ranges are measured, each uint8 `[height, width, channels]`.
        compared: Pictures on which the networks are compared, better other ones.
        advance: Told how many more pictures are done.

    Raises:
        ConversionError: The graph cannot be quantised.
    """
    prepared = prepare(model)
    activations = observe(prepared, examples, OPERATORS, advance)
    candidates = {
        method: to_int8(prepared, ranges_by(method, activations)) for method in RANGE_METHODS
    }
    quality = _signal_to_noise(prepared, candidates, compared, advance)
    best = max(RANGE_METHODS, key=quality.__getitem__)
    return Quantized(candidates[best], best, quality)


def _signal_to_noise(
    exact: onnx.ModelProto,
    candidates: Mapping[RangeMethod, onnx.ModelProto],
    pictures: Iterable[NDArray[np.uint8]],
    advance: Advance,
) -> dict[RangeMethod, float]:
    reference = open_session(exact.SerializeToString(), CPU)
    sessions = {
        method: open_session(each.SerializeToString(), CPU) for method, each in candidates.items()
    }
    signal, noise = 0.0, dict.fromkeys(candidates, 0.0)
    names = [OUTPUTS.logits.name]
    for picture in pictures:
        inputs = {IMAGE.name: picture[None]}
        (logits,) = reference.run(names, inputs)
        signal += float(np.sum(np.square(logits, dtype=np.float64)))
        for method, session in sessions.items():
            (rounded,) = session.run(names, inputs)
            noise[method] += float(np.sum(np.square(logits - rounded, dtype=np.float64)))
        advance(1)
    floor = np.finfo(np.float64).tiny
    return {
        method: float(10 * np.log10(max(signal, floor) / max(power, floor)))
        for method, power in noise.items()
    }
