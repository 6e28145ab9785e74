"""The contract of the served graph: the name, type and shape of its input and of each output.

Code that builds, runs or describes a graph takes them from here. To add an output, add a field to
`Outputs` and an entry to `OUTPUTS`.
"""

from collections.abc import Mapping
from typing import Generic, Literal, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")

Axis = Literal["height", "width", "channels", "classes"]
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
    """

    probabilities: T
    logits: T


OutputArrays = Outputs[NDArray[np.float32]]
"""The answers to one batch, float32 `[batch, ...]` each."""

IMAGE = GraphTensor("image", np.uint8, ("height", "width", "channels"))

OUTPUTS = Outputs(
    probabilities=GraphTensor("probabilities", np.float32, ("classes",)),
    logits=GraphTensor("logits", np.float32, ("classes",)),
)

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
    missing = [output.name for output in OUTPUTS if output.name not in shapes]
    if missing:
        raise ValueError(
            f"the graph returns {', '.join(shapes)} and lacks {', '.join(missing)}: export the "
            "model again"
        )
    return {output: shapes[output.name] for output in OUTPUTS}
