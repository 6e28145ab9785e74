import logging
from collections.abc import Iterator

import grpc
import pytest

from convd.client import (
    AsyncClient,
    CannotConnectError,
    Client,
    Connection,
    OverloadedError,
    Tls,
    UnavailableError,
)
from convd.client.address import is_loopback, parse_address
from convd.protos.convd.v1 import classification_pb2 as pb
from tests.client.scripted_server import a_cat, own_certificate, scripted_server
from tests.support import Client as Server

SECRET = "not-to-be-told"  # noqa: S105


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("example.org:9000", "example.org:9000"),
        ("example.org", "example.org:8001"),
        (" 10.0.0.7:1 ", "10.0.0.7:1"),
        ("::1", "[::1]:8001"),
        ("[::1]", "[::1]:8001"),
        ("[fe80::1]:7", "[fe80::1]:7"),
        ("unix:/run/convd.sock", "unix:/run/convd.sock"),
        ("dns:///convd.default.svc:8001", "dns:///convd.default.svc:8001"),
    ],
)
def test_an_address(text: str, target: str) -> None:
    assert parse_address(text) == target


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("http://localhost:8001/", "give the gRPC address alone, such as localhost:8001"),
        ("https://x", "such as x"),
        ("localhost:", "write HOST:PORT"),
        ("localhost:0", "write HOST:PORT"),
        ("localhost:70000", "write HOST:PORT"),
        ("a b", "write HOST:PORT"),
        ("", "write HOST:PORT"),
        ("1:2:3", "write HOST:PORT"),
    ],
)
def test_what_is_no_address_says_what_to_write(text: str, advice: str) -> None:
    with pytest.raises(ValueError, match=r"is not an address|is a URL") as refused:
        parse_address(text)
    assert advice in str(refused.value)


@pytest.mark.parametrize(
    ("target", "here"),
    [
        ("127.0.0.1:1", True),
        ("127.9.9.9:1", True),
        ("localhost:1", True),
        ("[::1]:1", True),
        ("unix:/x", True),
        ("dns:///localhost:1", True),
        ("ipv4:127.0.0.1:1", True),
        ("10.0.0.1:1", False),
        ("localhost.example.org:1", False),
        ("dns:///convd:1", False),
    ],
)
def test_loopback(target: str, here: bool) -> None:
    assert is_loopback(target) is here


def test_a_token_beyond_this_machine_without_tls_is_warned_of(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING):
        Connection("127.0.0.1:1", token=SECRET)
        Connection("example.org:1", token=SECRET, tls=Tls())
        assert not caplog.records
        connection = Connection("example.org:1", token=SECRET)
    assert "unencrypted" in caplog.text
    assert SECRET not in caplog.text + repr(connection)
    with pytest.raises(ValueError, match="a header cannot carry"):
        Connection(token=f"{SECRET}\n")


@pytest.fixture
def tokens_seen() -> list[object]:
    return []


@pytest.fixture(params=["plain", "tls"])
def token_server(request: pytest.FixtureRequest, tokens_seen: list[object]) -> Iterator[Connection]:
    """A server that notes the token of each call, and how to reach it with one."""

    def answer(message: pb.ClassifyRequest, context: grpc.ServicerContext) -> pb.ClassifyResponse:
        tokens_seen.append(dict(context.invocation_metadata()).get("authorization"))
        return a_cat(message, context)

    credentials, tls = None, None
    if request.param == "tls":
        certificate, key = own_certificate()
        credentials = grpc.ssl_server_credentials([(key, certificate)])
        tls = Tls(ca=certificate)
    with scripted_server(answer, credentials) as address:
        yield Connection(address, token=SECRET, tls=tls)


def test_a_token_goes_with_every_call(token_server: Connection, tokens_seen: list[object]) -> None:
    with Client(token_server) as client:
        assert client.classify(b"", "pets").label == "cat"
        assert [one.label for one in client.classify_stream([b""], "pets")] == ["cat"]  # type: ignore[union-attr]
    assert tokens_seen == [f"Bearer {SECRET}"] * 2


async def _ask_twice(connection: Connection) -> list[str]:
    async with AsyncClient(connection) as client:
        labels = [(await client.classify(b"", "pets")).label]
        async for one in client.classify_stream([b""], "pets"):
            labels.append(one.label)  # type: ignore[union-attr]  # noqa: PERF401
        return labels


def test_a_token_goes_with_every_call_of_asyncio(
    token_server: Connection, tokens_seen: list[object]
) -> None:
    import asyncio

    assert asyncio.run(_ask_twice(token_server)) == ["cat"] * 2
    assert tokens_seen == [f"Bearer {SECRET}"] * 2


def test_the_wrong_side_of_tls_is_named() -> None:
    certificate, key = own_certificate("elsewhere.test")
    credentials = grpc.ssl_server_credentials([(key, certificate)])
    with scripted_server(a_cat, credentials) as address:
        for tls, advice in (
            (None, "if it uses TLS, connect with TLS"),
            (Tls(), "not from a trusted authority"),
            (Tls(ca=certificate), "for another name"),
        ):
            with (
                Client(address, tls=tls) as client,
                pytest.raises(CannotConnectError, match=advice),
            ):
                client.classify(b"", "pets")
        right = Tls(ca=certificate, server_name="elsewhere.test")
        with Client(address, tls=right) as client:
            assert client.classify(b"", "pets").label == "cat"
    with (
        scripted_server(a_cat) as address,
        Client(address, tls=Tls(ca=certificate)) as client,
        pytest.raises(CannotConnectError, match="does not use TLS"),
    ):
        client.classify(b"", "pets")


def test_a_certificate_without_its_key_is_refused() -> None:
    with pytest.raises(ValueError, match="go together"):
        Tls(certificate=b"x")


def test_an_http_port_and_an_empty_one_are_recognised(client: Server) -> None:
    with (
        Client(f"127.0.0.1:{client.http_port}") as wrong,
        pytest.raises(CannotConnectError, match="give the gRPC port"),
    ):
        wrong.models()
    with Client("127.0.0.1:9") as nobody, pytest.raises(CannotConnectError, match="convd serve"):
        nobody.models()


def test_a_call_that_is_not_begun_is_tried_again() -> None:
    refusals = iter([True, True, False])
    calls = []

    def answer(message: pb.ClassifyRequest, context: grpc.ServicerContext) -> pb.ClassifyResponse:
        calls.append(message)
        if next(refusals):
            context.abort(grpc.StatusCode.UNAVAILABLE, "draining")
        return a_cat(message, context)

    # More than gRPC keeps for another try by default.
    picture = bytes(1024 * 1024)
    with scripted_server(answer) as address, Client(address) as client:
        assert client.classify(picture, "pets").label == "cat"
    assert len(calls) == 3


def test_it_gives_up_after_four_tries_and_repeats_nothing_else() -> None:
    calls = []

    def answer(message: pb.ClassifyRequest, context: grpc.ServicerContext) -> pb.ClassifyResponse:
        calls.append(message)
        full = message.model.name == "full"
        code = grpc.StatusCode.RESOURCE_EXHAUSTED if full else grpc.StatusCode.UNAVAILABLE
        context.abort(code, "no")
        raise AssertionError

    with scripted_server(answer) as address, Client(address) as client:
        with pytest.raises(UnavailableError, match="no"):
            client.classify(b"", "pets")
        assert len(calls) == 4
        with pytest.raises(OverloadedError):
            client.classify(b"", "full")
        assert len(calls) == 5
