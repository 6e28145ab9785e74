"""Valid requests for a model that takes 4 x 6 RGB pictures and knows three classes."""

import io
import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from convd.protos.inference import grpc_service_pb2 as pb
from convd.service.protocols.open_inference.tensors import raw_bytes_tensor

IMAGE_SHAPE = (4, 6, 3)
LABELS = ("cat", "dog", "ship")


def pixels(rows: int = 1) -> NDArray[np.uint8]:
    count = rows * math.prod(IMAGE_SHAPE)
    return (np.arange(count) % 251).astype(np.uint8).reshape(rows, *IMAGE_SHAPE)


def png(picture: NDArray[np.uint8] | None = None) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels()[0] if picture is None else picture).save(file, "PNG")
    return file.getvalue()


def raw_image_request(rows: int = 1) -> pb.ModelInferRequest:
    request = pb.ModelInferRequest(model_name="pets", id="7")
    request.inputs.add(name="image", datatype="UINT8", shape=[rows, *IMAGE_SHAPE])
    request.raw_input_contents.append(pixels(rows).tobytes())
    return request


def typed_image_request(rows: int = 1) -> pb.ModelInferRequest:
    request = pb.ModelInferRequest(model_name="pets", id="7")
    tensor = request.inputs.add(name="image", datatype="UINT8", shape=[rows, *IMAGE_SHAPE])
    tensor.contents.uint_contents.extend(pixels(rows).ravel().tolist())
    return request


def raw_encoded_request(*files: bytes) -> pb.ModelInferRequest:
    files = files or (png(),)
    request = pb.ModelInferRequest(model_name="pets", id="7")
    request.inputs.add(name="encoded_image", datatype="BYTES", shape=[len(files), 1])
    request.raw_input_contents.append(raw_bytes_tensor(files))
    return request


def typed_encoded_request(*files: bytes) -> pb.ModelInferRequest:
    files = files or (png(),)
    request = pb.ModelInferRequest(model_name="pets", id="7")
    tensor = request.inputs.add(name="encoded_image", datatype="BYTES", shape=[len(files), 1])
    tensor.contents.bytes_contents.extend(files)
    return request
