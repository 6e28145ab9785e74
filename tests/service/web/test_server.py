"""The limits of the HTTP server and of its bodies."""

import contextlib
import gc
import socket
import threading
from collections.abc import Iterator

import pytest

from convd.service.web.lanes import Lane
from convd.service.web.origin_policy import OriginPolicy
from convd.service.web.request import Request
from convd.service.web.response import Response, text
from convd.service.web.routes import Route
from convd.service.web.server import HttpServer
from convd.service.web.site import Site
from testbed.server import http_get
from tests.support import http_request, wait_until


def echo(request: Request) -> Response:
    return text(str(len(request.body)))


def open_server(
    port: int = 0, host: str = "127.0.0.1", max_body_bytes: int = 1000, held_bytes: int = 10_000
) -> HttpServer:
    routes = (
        Route("GET", "/", "echo", Lane.PAGE),
        Route("POST", "/", "echo", Lane.PAGE, max_body_bytes),
    )
    site = Site(
        OriginPolicy(host),
        dict.fromkeys(routes, echo),
        inference_threads=1,
        max_message_bytes=held_bytes // 4,
    )
    return HttpServer(host, port, site, on_stop=site.close)


@contextlib.contextmanager
def running(held_bytes: int = 10_000) -> Iterator[HttpServer]:
    server = open_server(held_bytes=held_bytes)
    server.start()
    try:
        yield server
    finally:
        server.stop()


@contextlib.contextmanager
def connected(server: HttpServer) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        yield connection


def test_a_body_over_the_limit_is_refused_before_it_is_read() -> None:
    with running() as server:
        assert http_request(server.port, "POST", "/", b"x" * 1000)[2] == b"1000\n"
        assert http_request(server.port, "POST", "/", b"x" * 1001)[0] == 413
        assert http_request(server.port, "GET", "/", b"x")[0] == 413
        with connected(server) as client:
            client.sendall(
                b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999999999999\r\n\r\n"
            )
            assert b"413" in client.recv(1000)


def test_chunks_over_the_limit_are_refused_too() -> None:
    with running() as server, connected(server) as client:
        client.sendall(b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            for _ in range(20):
                client.sendall(b"64\r\n" + b"x" * 100 + b"\r\n")
        assert b"413" in client.recv(1000)


def test_all_bodies_together_have_a_limit_that_what_has_gone_does_not_count_for() -> None:
    head = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 900\r\n\r\n"
    with running(held_bytes=2000) as server, contextlib.ExitStack() as stack:
        begun = [stack.enter_context(connected(server)) for _ in range(4)]
        for client in begun:
            client.sendall(head + b"x" * 600)
        refused = [client for client in begun[3:] if b"429" in client.recv(1000)]
        assert len(refused) == 1
        for client in begun[:3]:
            client.close()
        wait_until(lambda: http_request(server.port, "POST", "/", b"x" * 1000)[0] == 200)


def test_endless_headers_are_refused() -> None:
    with running() as server:
        assert http_request(server.port, "GET", "/", Cookie="x" * 20_000)[0] == 431


@pytest.mark.parametrize(
    "sent",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: \r\n\0: 1\r\n\r\n",
    ],
)
def test_what_is_not_http_is_refused_and_the_connection_closed(
    sent: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with running() as server, connected(server) as client:
        client.sendall(sent)
        assert b" 400 Bad Request" in b"".join(iter(lambda: client.recv(4096), b""))
        assert http_get(server.port, "/")[0] == 200
    assert not caplog.records


def test_rubbish_after_a_refused_body_ends_the_connection_silently(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with running() as server, connected(server) as client:
        client.sendall(
            b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"7d0\r\n" + b"x" * 2000 + b"\r\n"
        )
        assert b"413" in client.recv(4096)
        client.sendall(b"rubbish\r\n")
        with contextlib.suppress(ConnectionError):
            assert not b"".join(iter(lambda: client.recv(4096), b"")).count(b"HTTP/1.1")
        assert http_get(server.port, "/")[0] == 200
    assert not caplog.records


def test_one_connection_takes_request_after_request() -> None:
    one = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc"
    last = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    with running() as server, connected(server) as client:
        client.sendall(one * 5 + last)
        answers = b"".join(iter(lambda: client.recv(65536), b""))
        assert answers.count(b"HTTP/1.1 200 OK") == 6
        assert answers.endswith(b"0\n")


def test_clients_that_say_nothing_hold_up_nobody() -> None:
    with running() as server, contextlib.ExitStack() as stack:
        for start in (b"", b"GET / HTTP/1.1\r\nHost: local", b"POST / HTTP/1.1\r\nContent-Le") * 10:
            silent = stack.enter_context(connected(server))
            silent.sendall(start)
        assert http_get(server.port, "/") == (200, "0\n")


def test_requests_and_connections_leave_no_reference_cycles() -> None:
    """The process collects rarely: what requests leave in cycles would pile up."""
    with running() as server:
        http_request(server.port, "POST", "/", b"x")
        gc.collect()
        gc.disable()
        try:
            for _ in range(30):
                http_request(server.port, "POST", "/", b"x" * 100)
                http_request(server.port, "POST", "/", b"x" * 2000)
            wait_until(lambda: not server.connections)
            gc.set_debug(gc.DEBUG_SAVEALL)
            gc.collect()
            mine = [one for one in gc.garbage if "BoundedConnection" in type(one).__name__]
            assert not mine
        finally:
            gc.set_debug(0)
            gc.garbage.clear()
            gc.enable()


def test_a_taken_port_is_an_error() -> None:
    with running() as server, pytest.raises(OSError, match="in use"):
        open_server(server.port)


def test_it_stops_whether_it_was_started_or_not_and_frees_its_port() -> None:
    server = open_server()
    server.stop()
    again = open_server(server.port)
    again.start()
    assert http_get(again.port, "/")[0] == 200
    again.stop()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", server.port), timeout=10)
    wait_until(lambda: not [one for one in threading.enumerate() if one.name.startswith("http-")])


def test_it_listens_on_ipv6_too() -> None:
    try:
        server = open_server(host="::1")
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    server.start()
    with socket.create_connection(("::1", server.port), timeout=10) as client:
        client.sendall(b"GET / HTTP/1.0\r\nHost: [::1]\r\n\r\n")
        assert b"200 OK" in client.recv(1000)
    server.stop()


def test_the_parts_of_an_answer_do_not_wait_for_an_acknowledgement() -> None:
    """Nagle's algorithm and delayed acknowledgements together cost 40 ms an answer."""
    with running() as server, connected(server) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert client.recv(1000)
        [connection] = server.connections
        accepted = connection.transport.get_extra_info("socket")
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
