"""Requests and answers of each protocol: bytes for h2load, and probabilities to compare."""

import base64
import contextlib
import http.client
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import grpc
import numpy as np
from numpy.typing import NDArray

from convd.protos.convd.v1 import classification_pb2
from convd.protos.inference import grpc_service_pb2 as pb

Form = Literal["pixels", "jpeg"]
Answer = NDArray[np.float32]

_BOUNDARY = "picture"
_INFER = "/inference.GRPCInferenceService/ModelInfer"
_CLASSIFY = "/convd.v1.ClassificationService/Classify"


@dataclass(frozen=True)
class Request:
    """One request, and how its answer is read.

    Attributes:
        path: Path of the URL, or the full name of a gRPC method.
        body: What is sent, without gRPC's frame.
        read: The probabilities in an answer.
        headers: HTTP headers.
        is_grpc: Whether it travels as gRPC.
    """

    path: str
    body: bytes
    read: Callable[[bytes], Answer]
    headers: dict[str, str] = field(default_factory=dict)
    is_grpc: bool = False

    def ask(self, port: int) -> Answer | None:
        """The probabilities that a server answers; None while it does not answer."""
        try:
            if self.is_grpc:
                with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
                    call = channel.unary_unary(self.path, _as_it_is, _as_it_is)
                    return self.read(call(self.body, timeout=10))
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            with contextlib.closing(connection):
                connection.request("POST", self.path, self.body, self.headers)
                answer = connection.getresponse()
                return self.read(answer.read()) if answer.status == http.HTTPStatus.OK else None
        except (grpc.RpcError, http.client.HTTPException, OSError):
            return None


def infer(model: str, image: NDArray[np.uint8] | bytes) -> Request:
    """Open Inference Protocol over gRPC: pixels, or one encoded picture."""
    message = pb.ModelInferRequest(model_name=model)
    given = message.inputs.add(name="image")
    if isinstance(image, bytes):
        given.datatype, shape = "BYTES", (1, 1)
        message.raw_input_contents.append(len(image).to_bytes(4, "little") + image)
    else:
        given.datatype, shape = "UINT8", (1, *image.shape)
        message.raw_input_contents.append(image.tobytes())
    given.shape.extend(shape)
    message.outputs.add(name="probabilities")
    return Request(_INFER, message.SerializeToString(), _read_infer, is_grpc=True)


def classify(model: str, jpeg: bytes) -> Request:
    """Convd's own protocol."""
    message = classification_pb2.ClassifyRequest()
    message.model.name = model
    message.images.add().encoded = jpeg
    return Request(_CLASSIFY, message.SerializeToString(), _read_classify, is_grpc=True)


def body(path: str, image: NDArray[np.uint8] | bytes) -> Request:
    """Pixels or a picture as the body of a POST, and probabilities as the body of its answer."""
    sent = image if isinstance(image, bytes) else image.tobytes()
    return Request(path, sent, _floats, {"content-type": "application/octet-stream"})


def base64_json(path: str, image: NDArray[np.uint8] | bytes) -> Request:
    """The same in base64, in JSON."""
    sent = image if isinstance(image, bytes) else image.tobytes()
    text = json.dumps({"image": base64.b64encode(sent).decode()}).encode()
    return Request(path, text, _read_base64, {"content-type": "application/json"})


def bentoml(image: NDArray[np.uint8] | bytes) -> Request:
    """A list of numbers in JSON, or a multipart form with a file."""
    if not isinstance(image, bytes):
        text = json.dumps({"images": image[None].tolist()}).encode()
        return Request("/classify", text, _read_json, {"content-type": "application/json"})
    head = (
        f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="images"; filename="picture.jpg"'
        "\r\nContent-Type: image/jpeg\r\n\r\n"
    )
    form = head.encode() + image + f"\r\n--{_BOUNDARY}--\r\n".encode()
    headers = {"content-type": f"multipart/form-data; boundary={_BOUNDARY}"}
    return Request("/classify_jpeg", form, _read_json, headers)


def _as_it_is(message: bytes) -> bytes:
    return message


def _read_infer(answer: bytes) -> Answer:
    message = pb.ModelInferResponse.FromString(answer)
    names = [output.name for output in message.outputs]
    index = names.index("probabilities")
    if message.raw_output_contents:
        return _floats(message.raw_output_contents[index])
    return np.array(message.outputs[index].contents.fp32_contents, np.float32)


def _read_classify(answer: bytes) -> Answer:
    (result,) = classification_pb2.ClassifyResponse.FromString(answer).results
    classes = result.classification.classes
    probabilities = np.zeros(1 + max(one.index for one in classes), np.float32)
    probabilities[[one.index for one in classes]] = [one.probability for one in classes]
    return probabilities


def _read_base64(answer: bytes) -> Answer:
    return _floats(base64.b64decode(json.loads(answer)["probabilities"]))


def _read_json(answer: bytes) -> Answer:
    return np.array(json.loads(answer), np.float32).ravel()


def _floats(answer: bytes) -> Answer:
    return np.frombuffer(answer, np.float32)
