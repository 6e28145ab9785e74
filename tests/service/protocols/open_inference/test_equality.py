"""The same image gives the same probabilities, bit for bit, whichever way it comes."""

import io

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from convd.artifact.decoding import decode_image
from convd.artifact.manifest import Manifest
from convd.artifact.preprocessing import prepare_image
from convd.protos.convd.v1 import classification_pb2 as convd_pb
from convd.protos.inference import grpc_service_pb2 as pb
from convd.protos.inference.grpc_service_pb2_grpc import GRPCInferenceServiceStub
from convd.service.protocols.open_inference.tensors import raw_bytes_tensor
from tests.support import Client

MODEL = "digits"


@pytest.fixture(scope="module")
def photograph() -> bytes:
    """A JPEG of a size that the model does not take as it is."""
    pixels = np.random.default_rng(7).integers(0, 256, (61, 47, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG")
    return file.getvalue()


@pytest.fixture(scope="module")
def prepared(client: Client, photograph: bytes) -> NDArray[np.uint8]:
    """The same picture as the network takes it, prepared on this side."""
    request = convd_pb.GetModelRequest(model=convd_pb.ModelSpec(name=MODEL))
    manifest = Manifest.model_validate_json(client.stub.GetModel(request).manifest_json)
    return prepare_image(decode_image(photograph), manifest.preprocessing)


def classify(client: Client, image: convd_pb.Image) -> bytes:
    request = convd_pb.ClassifyRequest(model=convd_pb.ModelSpec(name=MODEL), images=[image])
    classes = client.stub.Classify(request).results[0].classification.classes
    ordered = sorted(classes, key=lambda one: one.index)
    return np.array([one.probability for one in ordered], "<f4").tobytes()


def pixels_request(prepared: NDArray[np.uint8], *, raw: bool) -> pb.ModelInferRequest:
    request = pb.ModelInferRequest(model_name=MODEL)
    tensor = request.inputs.add(name="image", datatype="UINT8", shape=[1, *prepared.shape])
    if raw:
        request.raw_input_contents.append(prepared.tobytes())
    else:
        tensor.contents.uint_contents.extend(prepared.ravel().tolist())
    return request


def file_request(photograph: bytes, *, raw: bool) -> pb.ModelInferRequest:
    request = pb.ModelInferRequest(model_name=MODEL)
    tensor = request.inputs.add(name="encoded_image", datatype="BYTES", shape=[1, 1])
    if raw:
        request.raw_input_contents.append(raw_bytes_tensor([photograph]))
    else:
        tensor.contents.bytes_contents.append(photograph)
    return request


def test_every_way_gives_the_same_probabilities(
    client: Client, photograph: bytes, prepared: NDArray[np.uint8]
) -> None:
    expected = classify(client, convd_pb.Image(encoded=photograph))
    assert classify(client, convd_pb.Image(prepared=prepared.tobytes())) == expected
    requests = [
        pixels_request(prepared, raw=True),
        pixels_request(prepared, raw=False),
        file_request(photograph, raw=True),
        file_request(photograph, raw=False),
    ]
    stub = GRPCInferenceServiceStub(client.channel)
    answers = [stub.ModelInfer(request) for request in requests]
    answers += [one.infer_response for one in stub.ModelStreamInfer(iter(requests))]
    assert [answer.raw_output_contents[0] for answer in answers] == [expected] * 8
