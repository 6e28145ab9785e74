"""Bodies of HTTP: requests of the Open Inference Protocol, from the messages of gRPC, and forms."""

import json
import math
from typing import Any

import numpy as np

from convd.protos.inference import grpc_service_pb2 as pb


def json_body(request: pb.ModelInferRequest, *, nested: bool = False) -> bytes:
    """A request with raw UINT8 inputs, all of it JSON."""
    document = _document(request)
    for tensor, message, raw in zip(
        document["inputs"], request.inputs, request.raw_input_contents, strict=True
    ):
        values = np.frombuffer(raw, np.uint8)
        if nested and math.prod(message.shape) == values.size:
            values = values.reshape(message.shape)
        tensor["data"] = values.tolist()
    return json.dumps(document).encode()


def binary_body(request: pb.ModelInferRequest, *, binary_output: bool = False) -> tuple[bytes, int]:
    """A request with raw inputs as binary data, and the size of its JSON."""
    document = _document(request)
    for tensor, raw in zip(document["inputs"], request.raw_input_contents, strict=True):
        tensor.setdefault("parameters", {})["binary_data_size"] = len(raw)
    if binary_output:
        document.setdefault("parameters", {})["binary_data_output"] = True
    header = json.dumps(document).encode()
    return b"".join((header, *request.raw_input_contents)), len(header)


def form(*files: bytes, boundary: str = "edge") -> tuple[bytes, dict[str, str]]:
    """What `curl -F image=@one -F image=@two` sends."""
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="{index}.png"\r\n'
        f"Content-Type: image/png\r\n\r\n".encode()
        + file
        + b"\r\n"
        for index, file in enumerate(files)
    ]
    body = b"".join((*parts, f"--{boundary}--\r\n".encode()))
    return body, {"Content_Type": f"multipart/form-data; boundary={boundary}"}


def _document(request: pb.ModelInferRequest) -> dict[str, Any]:
    document: dict[str, Any] = {
        "id": request.id,
        "inputs": [
            {
                "name": one.name,
                "datatype": one.datatype,
                "shape": list(one.shape),
                **_parameters(one),
            }
            for one in request.inputs
        ],
        **_parameters(request),
    }
    if request.outputs:
        document["outputs"] = [{"name": one.name, **_parameters(one)} for one in request.outputs]
    return document


def _parameters(message: Any) -> dict[str, Any]:
    given = {
        name: getattr(one, kind) if (kind := one.WhichOneof("parameter_choice")) else None
        for name, one in message.parameters.items()
    }
    return {"parameters": given} if given else {}
