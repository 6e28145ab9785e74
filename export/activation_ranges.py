"""Ranges for the activations of an int8 network, by three methods from one look at the pictures."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto

from convd.artifact.graph_contract import IMAGE
from convd.export.progress import Advance
from convd.runtime.cpu import CPU
from convd.runtime.session import open_session

RangeMethod = Literal["minmax", "percentile", "entropy"]
RANGE_METHODS: tuple[RangeMethod, ...] = get_args(RangeMethod)
"""How the range of an activation is chosen; the first of equally good ones is taken."""

Range = tuple[np.float32, np.float32]

PERCENTILE = 99.99
"""Share of the activations that the percentile method keeps, in percent."""

MAX_EXAMPLES = 256
"""More pictures do not change the ranges of the activations any further."""

_SAMPLES_BYTES = 64 * 2**20
_SMALLEST_SAMPLE = 64
_HISTOGRAM_BINS = 1024
_LEVELS = 128
_CANDIDATE_STEP = 8


@dataclass(frozen=True)
class Activations:
    """What is kept of one activation tensor.

    Attributes:
        lowest: Its smallest value in any picture.
        highest: Its largest value in any picture.
        samples: Values from random places of every picture, float32 `[samples]`.
    """

    lowest: np.float32
    highest: np.float32
    samples: NDArray[np.float32]

    def range_by(self, method: RangeMethod) -> Range:
        """The range that is divided into 256 steps; values outside are clipped."""
        low, high = self.lowest, self.highest
        if method == "percentile":
            cut = (100 - PERCENTILE) / 2
            low, high = np.percentile(self.samples, (cut, 100 - cut)).astype(np.float32)
        elif method == "entropy":
            threshold = entropy_threshold(np.abs(self.samples))
            low, high = max(low, -threshold), min(high, threshold)
        return np.float32(low), np.float32(high)


def observe(
    model: onnx.ModelProto,
    pictures: Iterable[NDArray[np.uint8]],
    operators: Sequence[str],
    advance: Advance = lambda _: None,
) -> dict[str, Activations]:
    """Run the pictures, and keep a bounded part of every activation that is to be quantised.

    Memory is that of one picture's activations and 64 MiB of samples, whatever the network and the
    number of pictures.

    Args:
        model: A float32 graph whose shapes are inferred.
        pictures: At most `MAX_EXAMPLES`, each uint8 `[height, width, channels]`.
        operators: Types of the operators whose inputs and outputs are quantised.
        advance: Told how many more pictures are done.
    """
    names = _activations(model, operators)
    sample = max(_SMALLEST_SAMPLE, _SAMPLES_BYTES // (4 * max(1, len(names)) * MAX_EXAMPLES))
    session = open_session(_with_outputs(model, names).SerializeToString(), CPU)
    random = np.random.default_rng(0)
    seen: dict[str, list[Activations]] = {name: [] for name in names}
    for picture in pictures:
        values = session.run(names, {IMAGE.name: picture[None]})
        for name, value in zip(names, values, strict=True):
            flat = value.ravel()
            places = random.integers(0, flat.size, min(sample, flat.size))
            seen[name].append(Activations(flat.min(), flat.max(), flat[places]))
        advance(1)
    return {name: _joined(parts) for name, parts in seen.items()}


def ranges_by(method: RangeMethod, activations: Mapping[str, Activations]) -> dict[str, Range]:
    """The range of every activation, by name."""
    return {name: one.range_by(method) for name, one in activations.items()}


def entropy_threshold(magnitudes: NDArray[np.float32]) -> np.float32:
    """Where to clip so that the quantised distribution differs least from the original.

    Migacz, "8-bit Inference with TensorRT", GTC 2017: of all thresholds, the one with the smallest
    Kullback-Leibler divergence between the clipped histogram and its copy in few levels. Zeros do
    not count: every range represents them exactly, and after a ReLU they outnumber the rest.

    Args:
        magnitudes: Absolute values, float32 `[values]`.
    """
    highest = magnitudes.max(initial=0.0)
    counts, edges = np.histogram(
        magnitudes[magnitudes > 0], _HISTOGRAM_BINS, (0.0, float(highest) or 1.0)
    )
    candidates = range(_LEVELS, _HISTOGRAM_BINS + 1, _CANDIDATE_STEP)
    best = min(candidates, key=lambda bins: (_divergence(counts, bins), -bins))
    return np.float32(min(float(edges[best]), float(highest)))


def _divergence(counts: NDArray[np.int64], bins: int) -> float:
    """Of a histogram that is clipped after some bins, from the same in `_LEVELS` levels."""
    clipped = counts[:bins].astype(np.float64)
    level = np.arange(bins) * _LEVELS // bins
    occupied = counts[:bins] > 0
    sums = np.bincount(level, clipped, _LEVELS)
    occupied_bins = np.maximum(np.bincount(level, occupied, _LEVELS), 1)
    spread = np.where(occupied, (sums / occupied_bins)[level], 0.0)
    clipped[-1] += counts[bins:].sum()
    if not spread.any():
        return math.inf
    expected = clipped / clipped.sum()
    # What is clipped may lie where no value was: a little probability there keeps it finite.
    given = spread / spread.sum() + 1e-9
    kept = expected > 0
    return float(np.sum(expected[kept] * np.log(expected[kept] / given[kept])))


def _activations(model: onnx.ModelProto, operators: Sequence[str]) -> list[str]:
    graph = model.graph
    values = (*graph.value_info, *graph.input, *graph.output)
    computed = {
        value.name for value in values if value.type.tensor_type.elem_type == TensorProto.FLOAT
    }
    computed -= {constant.name for constant in graph.initializer}
    nodes = [node for node in graph.node if node.op_type in operators]
    return sorted({name for node in nodes for name in (*node.input, *node.output)} & computed)


def _with_outputs(model: onnx.ModelProto, names: list[str]) -> onnx.ModelProto:
    extended = onnx.ModelProto()
    extended.CopyFrom(model)
    given = {output.name for output in extended.graph.output}
    extended.graph.output.extend(
        onnx.ValueInfoProto(name=name) for name in names if name not in given
    )
    return extended


def _joined(parts: list[Activations]) -> Activations:
    return Activations(
        min(part.lowest for part in parts),
        max(part.highest for part in parts),
        np.concatenate([part.samples for part in parts]),
    )
