"""The server on IPv6, and how its addresses are written."""

import contextlib
import http.client
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from convd.service.address import BindError, join_address
from convd.service.application import Application
from convd.service.settings_sources import load_settings
from convd.service.workers.supervisor import Supervisor
from tests.support import wait_until
from tests.tiny_artifact import publish_tiny


def has_ipv6() -> bool:
    """Whether this machine has an IPv6 loopback."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


NEEDS_IPV6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6 loopback")


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, Any]:
    publish_tiny(tmp_path)
    return {
        "repository": tmp_path,
        "grpc_port": 0,
        "http_port": 0,
        "provider": "cpu",
        "insecure": True,
    }


@contextlib.contextmanager
def taken_port() -> Iterator[int]:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as listening:
        yield listening.getsockname()[1]


def assert_answers(host: str, server: Application) -> None:
    """Ask its health over gRPC and over HTTP."""
    with grpc.insecure_channel(join_address(host, server.grpc_port)) as channel:
        request = health_pb2.HealthCheckRequest()
        health_pb2_grpc.HealthStub(channel).Check(request, timeout=30)
    connection = http.client.HTTPConnection(host, server.http_port, timeout=30)
    connection.request("GET", "/livez")
    assert connection.getresponse().status == 200
    connection.close()


def test_only_ipv6_has_brackets() -> None:
    assert join_address("::1", 8001) == "[::1]:8001"
    assert join_address("127.0.0.1", 8001) == "127.0.0.1:8001"
    assert join_address("localhost", 8001) == "localhost:8001"


@NEEDS_IPV6
@pytest.mark.parametrize(
    ("host", "reached_at"),
    [("::1", ["::1"]), ("[::1]", ["::1"]), ("::", ["::1", "127.0.0.1"])],
)
def test_grpc_and_http_are_answered_on_ipv6(
    settings: dict[str, Any], host: str, reached_at: list[str]
) -> None:
    server = Application(load_settings(settings | {"host": host}))
    server.start()
    try:
        wait_until(lambda: not server.unready_reason())
        for address in reached_at:
            assert_answers(address, server)
    finally:
        server.drain()


@NEEDS_IPV6
def test_a_worker_listens_on_ipv6(settings: dict[str, Any]) -> None:
    worker = Application(load_settings(settings | {"host": "::1"}), is_worker=True)
    worker.start()
    try:
        wait_until(lambda: not worker.unready_reason())
        with grpc.insecure_channel(join_address("::1", worker.grpc_port)) as channel:
            health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=30)
    finally:
        worker.drain()


@NEEDS_IPV6
@pytest.mark.parametrize(
    ("server", "port"),
    [(Application, "grpc_port"), (Application, "http_port"), (Supervisor, "grpc_port")],
)
def test_a_taken_port_is_named_with_its_address(
    settings: dict[str, Any], server: type[Application | Supervisor], port: str
) -> None:
    with taken_port() as taken, pytest.raises(BindError) as refused:
        server(load_settings(settings | {"host": "::1", "workers": 2, port: taken}))
    assert f"cannot listen on [::1]:{taken}: " in str(refused.value)
