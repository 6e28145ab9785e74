"""Writes the answer to an inference request: JSON, and binary data after it."""

import json
import math
from typing import Any, NamedTuple

import numpy as np

from convd.protos.inference import grpc_service_pb2 as pb
from convd.service.protocols.open_inference.tensors import InputTensor, bytes_elements


class BinaryOutputs(NamedTuple):
    """Which outputs go as binary data after the JSON.

    Attributes:
        default: Whether those do that do not say.
        chosen: For the others, by name.
    """

    default: bool
    chosen: dict[str, bool]

    def wanted(self, name: str) -> bool:
        """Whether this output goes as binary data."""
        return self.chosen.get(name, self.default)


def write_infer(response: pb.ModelInferResponse, binary: BinaryOutputs) -> tuple[bytes, int | None]:
    """Write a response.

    Args:
        response: The response, with raw contents.
        binary: Which outputs go as binary data.

    Returns:
        The body, and how many bytes of it are JSON; None if all are.
    """
    outputs, parts = [], []
    for output, raw in zip(response.outputs, response.raw_output_contents, strict=True):
        document: dict[str, Any] = {
            "name": output.name,
            "datatype": output.datatype,
            "shape": list(output.shape),
        }
        if binary.wanted(output.name):
            document["parameters"] = {"binary_data_size": len(raw)}
            parts.append(raw)
        elif output.datatype == "BYTES":
            named = InputTensor(name=output.name)
            elements = bytes_elements(named, raw, math.prod(output.shape))
            document["data"] = [element.decode() for element in elements]
        else:
            document["data"] = np.frombuffer(raw, "<f4").tolist()
        outputs.append(document)
    content: dict[str, Any] = {
        "model_name": response.model_name,
        "model_version": response.model_version,
        "parameters": {
            name: getattr(one, str(one.WhichOneof("parameter_choice")))
            for name, one in response.parameters.items()
        },
        "outputs": outputs,
    }
    if response.id:
        content["id"] = response.id
    header = json.dumps(content, ensure_ascii=False, allow_nan=False).encode()
    return b"".join((header, *parts)), len(header) if parts else None
