"""Makes a ModelInferResponse of a network's outputs."""

from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from convd.artifact.graph_contract import ALL_EXTRAS, OUTPUTS
from convd.protos.inference import grpc_service_pb2 as pb
from convd.service.inference.ranking import top_classes
from convd.service.inference.service import Classified
from convd.service.protocols.open_inference.request import InferRequest
from convd.service.protocols.open_inference.tensors import raw_bytes_tensor
from convd.service.servables.servable import Servable

# What a class takes as text besides its label, with its index and length: a ratio has eight
# characters, and a float32 up to 47.
_RATIO_BYTES, _VALUE_BYTES = 16, 64

_MOST_KEPT = 256


def make_response(
    request_id: str, request: InferRequest, answer: Classified
) -> pb.ModelInferResponse:
    """Write the requested outputs into a response, in raw form.

    Args:
        request_id: What the caller calls its request.
        request: The request.
        answer: The network's answer to it.
    """
    servable, outputs = answer.servable, answer.outputs
    labels = servable.manifest.labels
    tensors: list[tuple[str, str, tuple[int, ...]]] = []
    contents: list[bytes] = []
    for name, classes in request.wanted.outputs.items():
        tensor: NDArray[np.float32] = getattr(outputs, name)
        if classes is None:
            tensors.append((name, "FP32", tensor.shape))
            contents.append(tensor.astype("<f4", copy=False).tobytes())
        else:
            classes = min(classes, len(labels))
            tensors.append((name, "BYTES", (len(tensor), classes)))
            contents.append(
                raw_bytes_tensor(
                    element for row in tensor for element in best_classes(row, classes, labels)
                )
            )
    response = pb.ModelInferResponse()
    response.CopyFrom(
        _description(
            servable.name,
            servable.version_text,
            servable.provider.name,
            answer.batch_sizes,
            request.ignored_input,
            tuple(tensors),
        )
    )
    if request_id:
        response.id = request_id
    response.raw_output_contents.extend(contents)
    return response


@lru_cache(_MOST_KEPT)
def _description(
    model: str,
    version: str,
    provider: str,
    batch_sizes: tuple[int, ...],
    ignored_input: str,
    tensors: tuple[tuple[str, str, tuple[int, ...]], ...],
) -> pb.ModelInferResponse:
    """A response without its contents: most of them say the same, and a copy is made faster."""
    response = pb.ModelInferResponse(model_name=model, model_version=version)
    facts = response.parameters
    facts["execution_provider"].string_param = provider
    facts["batch_size"].int64_param = max(batch_sizes)
    if len(batch_sizes) > 1:
        facts["batch_sizes"].string_param = ",".join(map(str, batch_sizes))
    if ignored_input:
        facts["ignored_input"].string_param = ignored_input
    for name, datatype, shape in tensors:
        response.outputs.add(name=name, datatype=datatype, shape=shape)
    return response


def answer_bytes(wanted: Mapping[str, int | None], servable: Servable) -> int:
    """Upper bound of what the requested outputs take for one image, besides the optional ones.

    Args:
        wanted: The requested outputs, as in a request.
        servable: What answers.
    """
    size = 0
    for name, classes in wanted.items():
        if name in ALL_EXTRAS:
            continue
        if classes is None:
            size += servable.tensor_bytes[name]
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
