"""Writes a network's outputs into a ModelInferResponse."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from convd.artifact.graph_contract import ALL_EXTRAS, OUTPUTS, OutputArrays
from convd.protos.inference import grpc_service_pb2 as pb
from convd.service.inference.ranking import top_classes
from convd.service.protocols.open_inference.tensors import raw_bytes_tensor
from convd.service.servables.servable import Servable

# What a class takes as text besides its label, with its index and length: a ratio has eight
# characters, and a float32 up to 47.
_RATIO_BYTES, _VALUE_BYTES = 16, 64


def write_outputs(
    response: pb.ModelInferResponse,
    outputs: OutputArrays,
    wanted: Mapping[str, int | None],
    labels: Sequence[str],
) -> None:
    """Write the requested outputs into a response, in raw form.

    Args:
        response: The response.
        outputs: Every output, float32 `[rows, ...]`.
        wanted: The requested ones in the model's order, each with the number of classes to return
            instead of the tensor, or None for the tensor.
        labels: Class names in index order.
    """
    for name, classes in wanted.items():
        tensor: NDArray[np.float32] = getattr(outputs, name)
        if classes is None:
            response.outputs.add(name=name, datatype="FP32", shape=tensor.shape)
            response.raw_output_contents.append(tensor.astype("<f4", copy=False).tobytes())
        else:
            classes = min(classes, len(labels))
            response.outputs.add(name=name, datatype="BYTES", shape=[len(tensor), classes])
            response.raw_output_contents.append(
                raw_bytes_tensor(
                    element for row in tensor for element in best_classes(row, classes, labels)
                )
            )


def answer_bytes(wanted: Mapping[str, int | None], servable: Servable) -> int:
    """Upper bound of what the requested outputs take for one image, besides the optional ones.

    Args:
        wanted: The requested outputs, as for `write_outputs`.
        servable: What answers.
    """
    size = 0
    for name, classes in wanted.items():
        if name in ALL_EXTRAS:
            continue
        if classes is None:
            size += 4 * math.prod(servable.session.outputs[getattr(OUTPUTS, name)])
        else:
            count = min(classes, len(servable.manifest.labels))
            value_bytes = _RATIO_BYTES if name == OUTPUTS.probabilities.name else _VALUE_BYTES
            size += servable.answer_bytes(count) + count * value_bytes
    return size


def best_classes(row: NDArray[np.float32], classes: int, labels: Sequence[str]) -> list[bytes]:
    """Format the highest values of one row as the classification extension does.

    Args:
        row: float32 `[classes]`.
        classes: How many to return.
        labels: Class names in index order; an empty one is left out.

    Returns:
        `value:index:label` or `value:index`, highest value first; ties in index order.
    """
    return [
        f"{value:f}:{index}{':' if labels[index] else ''}{labels[index]}".encode()
        for index, value in top_classes(row, classes)
    ]
