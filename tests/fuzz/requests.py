"""Fuzz targets: messages of both protocols, from the raw bytes that gRPC hands over."""

import functools
from collections.abc import Callable
from typing import Any

from google.protobuf.message import Message

from convd.protos.convd.v1 import classification_pb2 as pb
from convd.protos.inference import grpc_service_pb2 as open_inference_pb
from convd.service.protocols.classification import ClassificationServicer
from convd.service.protocols.open_inference.servicer import OpenInferenceServicer
from convd.service.rpc.unreadable import check_readable, tolerant
from tests.artifact.formats.pictures import drawn, encoded
from tests.fuzz.bounds import memory_within
from tests.fuzz.mutation import mutate_message
from tests.fuzz.served import (
    DECODE_BUDGET_BYTES,
    MODEL,
    answered_or_refused,
    inference_on,
    load,
    settings,
)
from tests.fuzz.target import Target
from tests.service.protocols.open_inference.requests import (
    png,
    raw_encoded_request,
    raw_image_request,
    typed_encoded_request,
    typed_image_request,
)

_MAX_REQUEST_BYTES = 16 * 1024


class _Manager:
    """Stands for the manager where a model's configuration is described."""

    def version_policy(self, name: str) -> None:
        """No policy is known."""


@functools.cache
def _convd() -> ClassificationServicer:
    return ClassificationServicer(inference_on(load()))


@functools.cache
def open_inference() -> OpenInferenceServicer:
    """The servicer of the Open Inference Protocol."""
    return OpenInferenceServicer(inference_on(load()), _Manager(), settings())  # type: ignore[arg-type]


def _ask(data: bytes, kind: type[Message], method: Callable[[Any, Any], Message]) -> None:
    """Parse a message and answer it, as the interceptor has methods do."""
    parse = tolerant(kind.FromString)
    assert parse is not None
    message = parse(data)

    def answer() -> None:
        check_readable(message)
        method(message, None).SerializeToString()

    with memory_within(DECODE_BUDGET_BYTES + 4 * len(data)):
        answered_or_refused(answer)


def read_convd(data: bytes) -> None:
    """Take the bytes for each message of convd's own protocol."""
    servicer = _convd()
    _ask(data, pb.ClassifyRequest, servicer.Classify)
    _ask(data, pb.GetModelRequest, servicer.GetModel)


def read_open_inference(data: bytes) -> None:
    """Take the bytes for each message of the Open Inference Protocol that reads something."""
    servicer = open_inference()
    _ask(data, open_inference_pb.ModelInferRequest, servicer.ModelInfer)
    _ask(data, open_inference_pb.ModelReadyRequest, servicer.ModelReady)
    _ask(data, open_inference_pb.ModelMetadataRequest, servicer.ModelMetadata)
    _ask(data, open_inference_pb.ModelConfigRequest, servicer.ModelConfig)
    _ask(data, open_inference_pb.ModelStatisticsRequest, servicer.ModelStatistics)


def _convd_seeds() -> dict[str, bytes]:
    model = pb.ModelSpec(name=MODEL)
    images = {
        "png": pb.Image(encoded=png()),
        "jpeg": pb.Image(encoded=encoded(drawn(16, 9), "JPEG", quality=30)),
        "prepared": pb.Image(prepared=bytes(72)),
        "pixels": pb.Image(pixels=pb.Pixels(data=bytes(60), height=4, width=5, channels=3)),
        "nothing": pb.Image(),
    }
    seeds = {name: pb.ClassifyRequest(model=model, images=[one]) for name, one in images.items()}
    seeds["several"] = pb.ClassifyRequest(model=model, images=images.values(), top_k=2)
    by_label = pb.ModelSpec(name=MODEL, version_label="stable")
    seeds["label"] = pb.ClassifyRequest(model=by_label, images=[images["png"]])
    return {name: seed.SerializeToString() for name, seed in seeds.items()}


def _open_inference_seeds() -> dict[str, bytes]:
    classified = raw_image_request()
    classified.outputs.add(name="probabilities").parameters["classification"].int64_param = 2
    classified.parameters["timeout"].int64_param = 1_000_000
    classified.parameters["priority"].uint64_param = 1
    versioned = typed_encoded_request()
    versioned.model_version = "1"
    seeds = {
        "raw": raw_image_request(),
        "rows": raw_image_request(3),
        "typed": typed_image_request(2),
        "encoded": raw_encoded_request(png(), png()),
        "classified": classified,
        "versioned": versioned,
    }
    return {name: seed.SerializeToString() for name, seed in seeds.items()}


CONVD = Target(read_convd, mutate_message(pb.ClassifyRequest), _convd_seeds(), _MAX_REQUEST_BYTES)
OPEN_INFERENCE = Target(
    read_open_inference,
    mutate_message(open_inference_pb.ModelInferRequest),
    _open_inference_seeds(),
    _MAX_REQUEST_BYTES,
)
