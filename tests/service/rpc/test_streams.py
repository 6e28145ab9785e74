"""Streams and health watches that do nothing are bounded, end, and keep nobody out."""

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2 as reflection
from grpc_reflection.v1alpha import reflection_pb2_grpc as reflection_grpc

from convd.protos.convd.v1 import classification_pb2 as pb
from convd.protos.convd.v1.classification_pb2_grpc import ClassificationServiceStub
from convd.protos.inference import grpc_service_pb2 as open_inference
from convd.protos.inference import grpc_service_pb2_grpc as open_inference_grpc
from tests.support import Client, code_of, running_server, wait_until
from tests.tiny_artifact import publish_tiny

WATCH = "/grpc.health.v1.Health/Watch"


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    publish_tiny(tmp_path)
    return tmp_path


@contextlib.contextmanager
def connection(client: Client) -> Iterator[grpc.Channel]:
    options = [("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel(f"127.0.0.1:{client.grpc_port}", options=options) as channel:
        yield channel


@contextlib.contextmanager
def idle_streams(
    open_stream: Callable[[Iterator[Any]], Any], count: int, first: object = None
) -> Iterator[list[Any]]:
    """Streams whose client sends nothing, or one message that the server has answered."""
    over = threading.Event()

    def nothing() -> Iterator[Any]:
        if first is not None:
            yield first
        over.wait()

    streams = [open_stream(nothing()) for _ in range(count)]
    if first is not None:
        for stream in streams:
            next(iter(stream))
    yield streams
    over.set()


def one_request(channel: grpc.Channel) -> list[pb.ClassifyStreamResponse]:
    stream = ClassificationServiceStub(channel).ClassifyStream(
        iter([pb.ClassifyStreamRequest(id="a")]), timeout=20
    )
    return list(stream)


@pytest.mark.parametrize("protocol", ["convd", "open inference"])
def test_a_new_stream_gets_the_place_of_the_one_idle_longest(
    repository: Path, protocol: str
) -> None:
    with (
        running_server(repository, max_streams=4, message_timeout_seconds=0.5) as client,
        connection(client) as other,
    ):
        open_stream: Callable[..., Any] = client.stub.ClassifyStream
        first: Any = pb.ClassifyStreamRequest(id="first")
        if protocol == "open inference":
            stub = open_inference_grpc.GRPCInferenceServiceStub(client.channel)
            open_stream, first = stub.ModelStreamInfer, open_inference.ModelInferRequest()
        with idle_streams(open_stream, 4, first) as idle:
            wait_until(lambda: _is_answered(other))
            [ended] = [stream for stream in idle if stream.done()]
            assert ended.code() is grpc.StatusCode.CANCELLED


def _is_answered(channel: grpc.Channel) -> bool:
    try:
        return [response.id for response in one_request(channel)] == ["a"]
    except grpc.RpcError as refused:
        # Until the idle ones have been idle for long enough.
        assert refused.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        return False


def test_an_idle_stream_ends_and_is_counted_as_cancelled(
    repository: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        running_server(repository, stream_idle_seconds=0.6) as client,
        idle_streams(client.stub.ClassifyStream, 3) as idle,
    ):
        wait_until(lambda: all(stream.done() for stream in idle))
        assert {stream.code() for stream in idle} == {grpc.StatusCode.CANCELLED}
        wait_until(lambda: 'code="CANCELLED"' in client.get("/metrics")[1])
        assert 'code="INTERNAL"' not in client.get("/metrics")[1]
    assert "Traceback" not in caplog.text
    assert "nothing was sent or received within 0.6 s" in caplog.text


def test_a_stream_whose_client_takes_no_answers_ends(repository: Path) -> None:
    with running_server(repository, stream_idle_seconds=1.0) as client, connection(client) as slow:
        large = pb.ClassifyStreamRequest(id="a" * 1000)
        stream = ClassificationServiceStub(slow).ClassifyStream(iter([large] * 50_000))
        wait_until(lambda: 'code="CANCELLED"' in client.get("/metrics")[1])
        assert code_of(lambda: list(stream))[0] is grpc.StatusCode.CANCELLED


def test_idle_reflection_takes_no_place_from_streams_or_from_reflection(repository: Path) -> None:
    question = reflection.ServerReflectionRequest(list_services="")
    with running_server(repository, max_streams=1) as client, connection(client) as other:
        stub = reflection_grpc.ServerReflectionStub(client.channel)
        with idle_streams(stub.ServerReflectionInfo, 16):
            asked = reflection_grpc.ServerReflectionStub(other).ServerReflectionInfo
            wait_until(
                lambda: (
                    next(iter(asked(iter([question]), timeout=10))).WhichOneof("message_response")
                    == "list_services_response"
                )
            )
            assert one_request(other)


def test_a_reset_is_counted_as_cancelled_and_not_as_our_error(
    repository: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with running_server(repository) as client, caplog.at_level(logging.WARNING):
        first = pb.ClassifyStreamRequest(id="first")
        with idle_streams(client.stub.ClassifyStream, 5, first) as idle:
            for stream in idle:
                stream.cancel()
        # Reset while answers are on their way.
        large = pb.ClassifyStreamRequest(id="a" * 1000)
        sending: Any = client.stub.ClassifyStream(iter([large] * 50_000))
        next(iter(sending))
        sending.cancel()
        method = "/convd.v1.ClassificationService/ClassifyStream"

        def ended(code: str) -> int:
            series = f'convd_requests_total{{code="{code}",method="{method}",'
            lines = client.get("/metrics")[1].splitlines()
            return sum(int(float(one.split()[-1])) for one in lines if one.startswith(series))

        # gRPC may tell of the end of the messages first, and much later of the reset.
        wait_until(lambda: ended("CANCELLED") + ended("OK") == 6)
        assert ended("CANCELLED") >= 4
        assert 'code="INTERNAL"' not in client.get("/metrics")[1]
    warned = [one for one in caplog.records if one.levelno >= logging.WARNING]
    assert [one.getMessage() for one in warned if one.name != "convd"] == []


def test_health_watches_are_bounded_and_the_others_are_told_what_to_do(repository: Path) -> None:
    request = health_pb2.HealthCheckRequest(service="")
    with running_server(repository, max_health_watches=20) as client:
        watches = [health_pb2_grpc.HealthStub(client.channel).Watch(request) for _ in range(200)]
        refused: list[str] = []
        for watch in watches:
            try:
                next(iter(watch))
            except grpc.RpcError as error:
                assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
                refused.append(error.details() or "")
        assert len(refused) == 180
        assert "--max-health-watches" in refused[0]
        # Those that go make room.
        for watch in watches:
            watch.cancel()
        watch = health_pb2_grpc.HealthStub(client.channel).Watch
        wait_until(lambda: _has_answer(watch(request, timeout=10)))


def _has_answer(watch: Any) -> bool:
    try:
        return next(iter(watch)) is not None
    except grpc.RpcError:
        return False


def test_a_health_watch_ends_after_its_time(repository: Path) -> None:
    request = health_pb2.HealthCheckRequest(service="pets")
    with running_server(repository, health_watch_seconds=0.5) as client:
        [answer] = health_pb2_grpc.HealthStub(client.channel).Watch(request, timeout=20)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_watches_without_a_message_hold_up_nobody_and_end(
    repository: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        running_server(repository, unary_threads=8, message_timeout_seconds=0.5) as client,
        connection(client) as other,
    ):
        watch = other.stream_stream(WATCH, bytes, bytes)
        with idle_streams(watch, 50) as silent:
            assert client.stub.ListModels(pb.ListModelsRequest(), timeout=20).models
            wait_until(lambda: all(stream.done() for stream in silent))
        garbage = other.unary_stream(WATCH, bytes, bytes)
        code, details = code_of(lambda: list(garbage(b"\xff\xff\xff", timeout=10)))
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert "cannot be parsed" in details
    assert "Traceback" not in caplog.text


def test_a_connection_has_a_bound_of_calls(repository: Path) -> None:
    with (
        running_server(repository, max_calls_per_connection=4, max_streams=8) as client,
        connection(client) as greedy,
        idle_streams(
            ClassificationServiceStub(greedy).ClassifyStream, 4, pb.ClassifyStreamRequest(id="a")
        ),
    ):
        stub = ClassificationServiceStub(greedy)
        code, _ = code_of(lambda: stub.ListModels(pb.ListModelsRequest(), timeout=0.5))
        assert code is grpc.StatusCode.DEADLINE_EXCEEDED
        assert client.stub.ListModels(pb.ListModelsRequest(), timeout=20).models
