"""The contract of the served graph: the name, type and shape of its input and of each output.

Code that builds, runs or describes a graph takes them from here. To add an output, add a field to
`Outputs` and an entry to `OUTPUTS`; with a default of None it is optional: a graph may lack it, and
it is computed only for those who ask for it.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Generic, Literal, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")

Axis = Literal[
    "height", "width", "channels", "classes", "length", "map_height", "map_width", "maps"
]
"""What a dimension of a row counts."""


class GraphTensor(NamedTuple):
    """An input or output of the graph; its first dimension is always the batch.

    Attributes:
        name: Its name in the ONNX file and in the Open Inference Protocol.
        dtype: The type of its elements.
        axes: The dimensions of one row.
    """

    name: str
    dtype: type[np.generic]
    axes: tuple[Axis, ...]

    @property
    def has_classes(self) -> bool:
        """Whether a row holds one value for each class, so that labels apply to it."""
        return self.axes == ("classes",)


class Outputs(NamedTuple, Generic[T]):
    """One value for each output of the graph, in the order of the graph.

    A session returns an `Outputs` of arrays. Since it is a tuple in a fixed order, code that only
    splits and joins batches need not know the names.

    Attributes:
        probabilities: Softmax or sigmoid of the logits, after temperature.
        logits: The network's own output, before temperature.
        features: What the last layer takes: a vector that is near that of a similar picture.
        activation_maps: The last feature maps, of which `features` are the means: what class
            activation mapping needs (Zhou et al., "Learning Deep Features for Discriminative
            Localization", CVPR 2016).
    """

    probabilities: T
    logits: T
    features: T | None = None
    activation_maps: T | None = None


OutputArrays = Outputs[NDArray[np.float32]]
"""The answers to one batch, float32 `[batch, ...]` each; None for what was not asked for."""

IMAGE = GraphTensor("image", np.uint8, ("height", "width", "channels"))

FEATURES = GraphTensor("features", np.float32, ("length",))
ACTIVATION_MAPS = GraphTensor("activation_maps", np.float32, ("maps", "map_height", "map_width"))

OUTPUTS = Outputs(
    probabilities=GraphTensor("probabilities", np.float32, ("classes",)),
    logits=GraphTensor("logits", np.float32, ("classes",)),
    features=FEATURES,
    activation_maps=ACTIVATION_MAPS,
)

REQUIRED = (OUTPUTS.probabilities, OUTPUTS.logits)
"""What every graph returns, and every request gets."""

OPTIONAL = (FEATURES, ACTIVATION_MAPS)
"""What a graph may lack, and a request has to ask for."""

Extras = frozenset[str]
"""Names of the optional outputs that are asked for."""

NO_EXTRAS: Extras = frozenset()

ALL_EXTRAS: Extras = frozenset(output.name for output in OPTIONAL)


def join_parts(
    parts: Sequence[tuple[NDArray[np.float32] | None, ...]],
) -> tuple[NDArray[np.float32] | Any, ...]:
    """Put the answers to parts of a batch together; an output that one part lacks is left out."""
    return tuple(map(_joined, zip(*parts, strict=True)))


def _joined(arrays: tuple[NDArray[np.float32] | None, ...]) -> NDArray[np.float32] | None:
    present = [array for array in arrays if array is not None]
    return np.concatenate(present) if len(present) == len(arrays) else None


RowShape = tuple[int, ...]
"""The shape of one row of an input or output of a particular graph."""


def outputs_of(shapes: Mapping[str, RowShape]) -> dict[GraphTensor, RowShape]:
    """Find the contract's outputs in a particular graph.

    Args:
        shapes: Everything that the graph returns, by name.

    Returns:
        Its outputs in the contract's order.

    Raises:
        ValueError: The graph lacks an output.
    """
    missing = [output.name for output in REQUIRED if output.name not in shapes]
    if missing:
        raise ValueError(
            f"the graph returns {', '.join(shapes)} and lacks {', '.join(missing)}: export the "
            "model again"
        )
    return {
        output: shapes[output.name] for output in (*REQUIRED, *OPTIONAL) if output.name in shapes
    }
