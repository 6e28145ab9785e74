"""Random mutations of valid requests: each is answered or refused, and nothing breaks."""

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from google.protobuf.message import DecodeError
from hypothesis import HealthCheck, given, settings

from convd.artifact.repository import ModelRepository
from convd.protos.inference import grpc_service_pb2 as pb
from convd.protos.inference.grpc_service_pb2_grpc import GRPCInferenceServiceStub
from convd.runtime.cores import CoreBudget
from convd.service.calls.call import Call
from convd.service.calls.status import status_of
from convd.service.errors import ServiceError
from convd.service.inference.service import InferenceService
from convd.service.lifecycle.catalog import Catalog, VersionStatus
from convd.service.lifecycle.configuration import ModelConfiguration
from convd.service.lifecycle.loading import ServableLoader
from convd.service.lifecycle.policy import State
from convd.service.metrics import Metrics
from convd.service.protocols.open_inference.servicer import OpenInferenceServicer
from convd.service.settings import ServerSettings
from tests.service.protocols.open_inference.mutations import NAMES, damaged, mutated
from tests.support import Client

EXAMPLES = 1000
METHOD = "/inference.GRPCInferenceService/ModelInfer"


@pytest.fixture(scope="module")
def servicer(pets: Path) -> Iterator[OpenInferenceServicer]:
    """The servicer on a real servable, without the network between."""
    configuration = ServerSettings.model_validate(
        {"repository": pets, "intra_op_threads": 1, "max_batch_size": 8, "load_memory_bytes": 0}
    )
    load = ServableLoader(ModelRepository(pets), configuration, Metrics(), CoreBudget(1))
    servable = load("pets", 1, ModelConfiguration())
    catalog = Catalog()
    catalog.put(VersionStatus("pets", 1, State.AVAILABLE, servable=servable))
    inference = InferenceService(
        catalog, max_image_pixels=2**20, max_images_per_request=16, decode_budget_bytes=2**26
    )
    yield OpenInferenceServicer(inference, None, configuration)  # type: ignore[arg-type]
    servable.drain(1.0)


def check(servicer: OpenInferenceServicer, request: pb.ModelInferRequest) -> None:
    try:
        response = servicer.infer(request, Call())
    except ServiceError as error:
        status = status_of(error, "id")
        assert status.code is not grpc.StatusCode.INTERNAL
        assert 0 < len(status.message) < 500
        assert status.message.isprintable()
    else:
        assert response.id == request.id
        assert response.outputs
        assert len(response.outputs) == len(response.raw_output_contents)


FUZZ = settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


@FUZZ
@given(request_=mutated())
def test_mutated_fields(servicer: OpenInferenceServicer, request_: pb.ModelInferRequest) -> None:
    check(servicer, request_)


@FUZZ
@given(data=damaged())
def test_damaged_bytes(servicer: OpenInferenceServicer, data: bytes) -> None:
    try:
        request = pb.ModelInferRequest.FromString(data)
    except DecodeError:
        return
    check(servicer, request)


@settings(FUZZ, max_examples=max(EXAMPLES // 10, 1))
@given(request_=mutated())
def test_mutated_requests_over_the_network(server: Client, request_: pb.ModelInferRequest) -> None:
    call = server.channel.unary_unary(
        METHOD,
        request_serializer=pb.ModelInferRequest.SerializeToString,
        response_deserializer=pb.ModelInferResponse.FromString,
    )
    try:
        call(request_, timeout=30)
    except grpc.RpcError as error:
        assert error.code() not in (
            grpc.StatusCode.INTERNAL,
            grpc.StatusCode.UNKNOWN,
            grpc.StatusCode.DEADLINE_EXCEEDED
            if "timeout" not in request_.parameters
            else grpc.StatusCode.INTERNAL,
        )


@settings(FUZZ, max_examples=max(EXAMPLES // 10, 1))
@given(name=NAMES, version=NAMES)
def test_any_name_and_version(server: Client, name: str, version: str) -> None:
    stub = GRPCInferenceServiceStub(server.channel)
    for ask in (
        lambda: stub.ModelReady(pb.ModelReadyRequest(name=name, version=version)),
        lambda: stub.ModelMetadata(pb.ModelMetadataRequest(name=name, version=version)),
        lambda: stub.ModelConfig(pb.ModelConfigRequest(name=name, version=version)),
        lambda: stub.ModelStatistics(pb.ModelStatisticsRequest(name=name, version=version)),
        lambda: stub.TraceSetting(pb.TraceSettingRequest(model_name=name)),
    ):
        try:
            ask()
        except grpc.RpcError as error:
            assert error.code() in (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INVALID_ARGUMENT)
