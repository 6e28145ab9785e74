"""grpc.health.v1 over a real server: Check and Watch, per model and overall."""

import contextlib
import queue
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from convd.protos.convd.v1 import classification_pb2 as pb
from convd.service.application import Application
from convd.service.settings_sources import load_settings
from tests.support import Client, running_server, wait_until

Response = health_pb2.HealthCheckResponse


@contextlib.contextmanager
def stays_connected(repository: Path) -> Iterator[tuple[Application, Client]]:
    """A server that the test drains while the client's connection is open."""
    settings = {"repository": repository, "grpc_port": 0, "http_port": 0, "drain_seconds": 30.0}
    application = Application(load_settings(settings))
    application.start()
    with grpc.insecure_channel(f"127.0.0.1:{application.grpc_port}") as channel:
        client = Client(channel, application.http_port, application.grpc_port)
        wait_until(lambda: check(client, "") == "SERVING")
        yield application, client


def watch(client: Client, service: str) -> "queue.Queue[str]":
    """Names of the statuses as they come; END when the server ends the watch."""
    seen: queue.Queue[str] = queue.Queue()
    request = health_pb2.HealthCheckRequest(service=service)
    answers = health_pb2_grpc.HealthStub(client.channel).Watch(request)

    def read() -> None:
        try:
            for answer in answers:
                seen.put(Response.ServingStatus.Name(answer.status))
            seen.put("END")
        except grpc.RpcError as error:
            seen.put(error.code().name)

    threading.Thread(target=read, daemon=True).start()
    return seen


def check(client: Client, service: str) -> str:
    request = health_pb2.HealthCheckRequest(service=service)
    answer = health_pb2_grpc.HealthStub(client.channel).Check(request, timeout=10)
    return str(Response.ServingStatus.Name(answer.status))


def test_a_watcher_hears_when_a_model_comes_goes_and_is_gone(repository: Path) -> None:
    with running_server(repository) as client:
        seen = watch(client, "late")
        assert seen.get(timeout=10) == "SERVICE_UNKNOWN"
        shutil.copytree(repository / "digits", repository / "late")
        # Not serving while it loads.
        assert seen.get(timeout=30) == "NOT_SERVING"
        assert seen.get(timeout=30) == "SERVING"
        assert check(client, "late") == "SERVING"
        shutil.rmtree(repository / "late")
        assert seen.get(timeout=30) == "NOT_SERVING"
        assert seen.get(timeout=30) == "SERVICE_UNKNOWN"
        with pytest.raises(grpc.RpcError) as caught:
            check(client, "late")
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_watches_hear_of_the_drain_end_and_do_not_hold_it_up(repository: Path) -> None:
    with stays_connected(repository) as (application, client):
        overall, model = watch(client, ""), watch(client, "digits")
        assert overall.get(timeout=10) == model.get(timeout=10) == "SERVING"
        started = time.monotonic()
        application.drain()
        assert time.monotonic() - started < 15
        for seen in (overall, model):
            assert [seen.get(timeout=10) for _ in range(2)] == ["NOT_SERVING", "END"]


def test_an_idle_stream_does_not_hold_up_the_exit(repository: Path) -> None:
    done = threading.Event()

    def requests() -> Iterator[pb.ClassifyStreamRequest]:
        yield pb.ClassifyStreamRequest(id="first")
        done.wait(60)

    with stays_connected(repository) as (application, client):
        stream = iter(client.stub.ClassifyStream(requests()))
        next(stream)
        started = time.monotonic()
        application.drain()
        assert time.monotonic() - started < 15
        with pytest.raises(grpc.RpcError):
            next(stream)
        done.set()
