"""Connections that do nothing, or little, leave room for probes."""

import socket
import time
from collections.abc import Iterator
from typing import cast

import pytest

from convd.service.web import connections
from convd.service.web.connections import MAX_CONNECTIONS, SPARE_CONNECTIONS, BoundedConnection
from testbed.server import http_get
from tests.support import Client, running_server, wait_until
from tests.tiny_artifact import publish_tiny


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    root = tmp_path_factory.mktemp("repository")
    publish_tiny(root)
    with running_server(root) as client:
        yield client


def connect(server: Client, count: int, sent: bytes = b"") -> list[socket.socket]:
    opened = [
        socket.create_connection(("127.0.0.1", server.http_port), timeout=10) for _ in range(count)
    ]
    for connection in opened:
        connection.sendall(sent)
    return opened


@pytest.mark.parametrize("count", [70, MAX_CONNECTIONS + 100])
@pytest.mark.parametrize("sent", [b"", b"GET /metrics HTTP/1.1\r\nHost: a\r\n", b"POST / HTTP/1.1"])
def test_probes_are_answered_beside_idle_and_half_sent_requests(
    server: Client, count: int, sent: bytes
) -> None:
    opened = connect(server, count, sent)
    for path in ("/livez", "/readyz", "/metrics"):
        assert http_get(server.http_port, path)[0] == 200
    for connection in opened:
        connection.close()


class Transport:
    """As asyncio's: what is aborted is lost only when the loop comes to it."""

    closing = False

    def is_closing(self) -> bool:
        return self.closing

    def abort(self) -> None:
        self.closing = True


class Idle:
    makes_room = True

    def __init__(self, since: float) -> None:
        self.since = since
        self.transport = Transport()


def test_a_burst_closes_no_more_than_it_has_to() -> None:
    """Connections that come in one turn of the loop, before any that was closed is lost."""
    burst: list[Idle] = []
    for number in range(3 * MAX_CONNECTIONS):
        burst.append(Idle(float(number)))
        everyone = cast("list[BoundedConnection]", burst)
        connections.make_room(everyone, everyone[-1])
    kept = [one for one in burst if not one.transport.closing]
    assert kept == burst[-(MAX_CONNECTIONS - SPARE_CONNECTIONS) :]


def test_a_request_that_trickles_in_is_given_up(
    server: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "_REQUEST_SECONDS", 1.0)
    [connection] = connect(server, 1, b"GET /livez HTTP/1.1\r\n")

    def is_closed() -> bool:
        try:
            connection.sendall(b"a: b\r\n")
        except OSError:
            return True
        time.sleep(0.2)
        return False

    with connection:
        wait_until(is_closed, timeout_seconds=20)


def test_an_answer_that_nobody_takes_is_given_up(
    server: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "_ANSWER_SECONDS", 1.0)
    [connection] = connect(server, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)

    def is_closed() -> bool:
        try:
            connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" * 50)
        except OSError:
            return True
        time.sleep(0.2)
        return False

    with connection:
        wait_until(is_closed, timeout_seconds=30)
