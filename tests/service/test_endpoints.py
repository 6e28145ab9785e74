"""What stands around the answers: metrics, liveness, readiness, health and reflection."""

import threading
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)
from prometheus_client.parser import text_string_to_metric_families

from convd.protos.convd.v1 import classification_pb2 as pb
from tests.digits import Digits
from tests.support import Client, running_server

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


def counter(client: Client, name: str, **labels: str) -> float:
    families = text_string_to_metric_families(client.get("/metrics")[1])
    return sum(
        sample.value
        for family in families
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


def test_requests_images_stages_and_batches_are_counted(client: Client, digits: Digits) -> None:
    method = "/convd.v1.ClassificationService/Classify"
    ok = {"model": "digits", "version": "1", "method": method, "code": "OK"}
    before = {
        name: counter(client, name, **labels)
        for name, labels in (
            ("convd_requests_total", ok),
            ("convd_images_total", {}),
            ("convd_batch_size_rows_sum", {}),
            ("convd_stage_duration_seconds_count", {"stage": "inference"}),
        )
    }
    good = digits.encoded()
    client.classify(good, good, b"corrupt")
    with pytest.raises(grpc.RpcError):
        client.classify(good, model="unknown")
    assert counter(client, "convd_requests_total", **ok) == before["convd_requests_total"] + 1
    classified = counter(client, "convd_images_total")
    assert classified == before["convd_images_total"] + 2
    assert counter(client, "convd_refused_images_total") >= 1
    assert counter(client, "convd_batch_size_rows_sum") == before["convd_batch_size_rows_sum"] + 2
    stage = counter(client, "convd_stage_duration_seconds_count", stage="inference")
    assert stage == before["convd_stage_duration_seconds_count"] + 1
    # A name that a client made up must not become a label.
    assert counter(client, "convd_requests_total", code="NOT_FOUND", model="") >= 1
    assert 'model="unknown"' not in client.get("/metrics")[1]


def test_liveness_and_readiness(client: Client) -> None:
    assert client.get("/livez") == (200, "live\n")
    assert client.get("/readyz") == (200, "ready\n")
    assert client.get("/elsewhere")[0] == 404


def test_an_empty_repository_is_live_and_not_ready(tmp_path: Path) -> None:
    with running_server(tmp_path) as client:
        assert client.get("/livez")[0] == 200
        assert client.get("/readyz") == (503, "not ready: no model is available\n")
        health = health_pb2_grpc.HealthStub(client.channel)
        assert health.Check(health_pb2.HealthCheckRequest(), timeout=10).status == NOT_SERVING


@pytest.mark.parametrize("service", ["", "digits", "convd.v1.ClassificationService"])
def test_health_of_the_server_a_model_and_a_service(client: Client, service: str) -> None:
    health = health_pb2_grpc.HealthStub(client.channel)
    request = health_pb2.HealthCheckRequest(service=service)
    assert health.Check(request, timeout=10).status == SERVING
    assert next(iter(health.Watch(request, timeout=10))).status == SERVING


def test_health_of_an_unknown_name_is_not_found(client: Client) -> None:
    health = health_pb2_grpc.HealthStub(client.channel)
    with pytest.raises(grpc.RpcError) as caught:
        health.Check(health_pb2.HealthCheckRequest(service="nobody"), timeout=10)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_reflection_describes_every_service(client: Client) -> None:
    database = ProtoReflectionDescriptorDatabase(client.channel)
    services = set(database.get_services())
    assert {"convd.v1.ClassificationService", "grpc.health.v1.Health"} <= services
    service = DescriptorPool(database).FindServiceByName("convd.v1.ClassificationService")
    assert [method.name for method in service.methods] == [
        "Classify",
        "ClassifyStream",
        "Explain",
        "ListModels",
        "GetModel",
        "ListComparisons",
    ]


def test_idle_streams_do_not_starve_unary_calls_and_are_bounded(
    repository: Path, digits: Digits
) -> None:
    with running_server(repository, max_streams=2, unary_threads=1) as client:
        done = threading.Event()

        def idle() -> Iterator[pb.ClassifyStreamRequest]:
            done.wait(30)
            yield from ()

        streams = [client.stub.ClassifyStream(idle(), timeout=30) for _ in range(2)]
        for _ in range(5):
            assert len(client.classify(digits.encoded()).results) == 1
        with pytest.raises(grpc.RpcError) as caught:
            list(client.stub.ClassifyStream(idle(), timeout=10))
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        done.set()
        assert [list(stream) for stream in streams] == [[], []]
