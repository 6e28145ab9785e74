"""The limits of the HTTP server."""

import contextlib
import socket
import threading
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import pytest

from convd.service.web.server import HttpServer
from testbed.server import http_get
from tests.support import http_request

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment


def echo(environ: "WSGIEnvironment", start: "StartResponse") -> Iterable[bytes]:
    start("200 OK", [("Content-Type", "text/plain")])
    return [str(len(environ["wsgi.input"].read())).encode()]


@contextlib.contextmanager
def running(max_body_bytes: int = 1000) -> Iterator[HttpServer]:
    server = HttpServer("127.0.0.1", 0, echo, max_body_bytes=max_body_bytes)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def test_a_body_over_the_limit_is_refused_before_it_is_read() -> None:
    with running() as server:
        assert http_request(server.port, "POST", "/", b"x" * 1000)[2] == b"1000"
        assert http_request(server.port, "POST", "/", b"x" * 1001)[0] == 413
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
            client.sendall(
                b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999999999999\r\n\r\n"
            )
            assert b"413" in client.recv(1000)


def test_chunks_over_the_limit_are_refused_too() -> None:
    with running() as server, socket.create_connection(("127.0.0.1", server.port), 10) as client:
        client.sendall(b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            for _ in range(20):
                client.sendall(b"64\r\n" + b"x" * 100 + b"\r\n")
        assert b"413" in client.recv(1000)


def test_endless_headers_are_refused() -> None:
    with running() as server:
        assert http_request(server.port, "GET", "/", Cookie="x" * 20_000)[0] == 431


def test_clients_that_say_nothing_hold_up_nobody() -> None:
    with running() as server, contextlib.ExitStack() as stack:
        for start in (b"", b"GET / HTTP/1.1\r\nHost: local", b"POST / HTTP/1.1\r\nContent-Le") * 10:
            silent = socket.create_connection(("127.0.0.1", server.port), timeout=10)
            stack.enter_context(contextlib.closing(silent))
            silent.sendall(start)
        assert http_get(server.port, "/") == (200, "0")


def test_a_taken_port_is_an_error() -> None:
    with running() as server, pytest.raises(OSError, match="in use"):
        HttpServer("127.0.0.1", server.port, echo, max_body_bytes=1)


def test_it_stops_whether_it_was_started_or_not_and_frees_its_port() -> None:
    server = HttpServer("127.0.0.1", 0, echo, max_body_bytes=1)
    server.stop()
    again = HttpServer("127.0.0.1", server.port, echo, max_body_bytes=1)
    again.start()
    assert http_get(again.port, "/")[0] == 200
    again.stop()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", server.port), timeout=10)
    assert not [one for one in threading.enumerate() if one.name == "http-server"]


def test_it_listens_on_ipv6_too() -> None:
    try:
        server = HttpServer("::1", 0, echo, max_body_bytes=1)
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    server.start()
    with socket.create_connection(("::1", server.port), timeout=10) as client:
        client.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert b"200 OK" in client.recv(1000)
    server.stop()
