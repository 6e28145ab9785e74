"""What clients do wrong below the messages is theirs: refused with an id, and counted as such."""

import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from testbed.raw_http2 import RawConnection
from testbed.server import server_process
from tests.support import Client, running_server, wait_until
from tests.tiny_artifact import publish_tiny

GARBAGE = b"\xff\xff\xff\xff"
GZIP, NOTHING = (b"grpc-encoding", b"gzip"), (b"x-nothing", b"")
LIST = b"/convd.v1.ClassificationService/ListModels"
CLASSIFY = b"/convd.v1.ClassificationService/Classify"
STREAM = b"/convd.v1.ClassificationService/ClassifyStream"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    root = tmp_path_factory.mktemp("repository")
    publish_tiny(root)
    with running_server(root) as client:
        yield client


def same(message: bytes) -> bytes:
    return message


def test_a_message_that_cannot_be_parsed_is_the_callers_fault(
    server: Client, caplog: pytest.LogCaptureFixture
) -> None:
    unary = server.channel.unary_unary("/convd.v1.ClassificationService/Classify", same, same)
    stream = server.channel.stream_stream(
        "/inference.GRPCInferenceService/ModelStreamInfer", same, same
    )
    for call in (lambda: unary(GARBAGE), lambda: list(stream(iter([GARBAGE] * 20)))):
        with pytest.raises(grpc.RpcError) as refused:
            call()
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "cannot be parsed" in (refused.value.details() or "")
        assert "x-request-id" in str(refused.value.trailing_metadata())
    assert "Traceback" not in caplog.text
    assert "Exception deserializing" not in caplog.text
    assert 'code="INVALID_ARGUMENT"' in server.get("/metrics")[1]


@pytest.mark.parametrize(
    "request_id", [b"caf\xc3\xa9", b"\xff\xfe\x80"], ids=["beyond ASCII", "not text"]
)
def test_a_request_id_that_cannot_be_echoed_is_dropped(server: Client, request_id: bytes) -> None:
    with RawConnection(server.grpc_port) as connection:
        answer = connection.call(LIST, b"", (b"x-request-id", request_id))
    assert answer.status == 0
    assert b"pets" in answer.body
    assert request_id not in answer.headers
    assert b"x-request-id" not in answer.headers


def test_the_log_has_no_metadata_that_is_not_text(
    server: Client, caplog: pytest.LogCaptureFixture
) -> None:
    def is_logged() -> bool:
        with RawConnection(server.grpc_port) as connection:
            connection.call(LIST, b"", (b"authorization", b"Bearer secret\xff"))
        return "metadata that is not text" in caplog.text

    # One line a second.
    wait_until(is_logged)
    assert "secret" not in caplog.text


def test_an_id_with_control_characters_is_echoed_without_them(server: Client) -> None:
    with RawConnection(server.grpc_port) as connection:
        answer = connection.call(LIST, b"", (b"x-request-id", b"a\x7f\tb"))
    assert answer.status == 0
    assert b"a??b" in answer.headers


@pytest.mark.slow
def test_hostile_calls_cost_a_line_of_log_per_kind_and_second(tmp_path: Path) -> None:
    publish_tiny(tmp_path / "repository")
    hostile: list[tuple[bytes, bytes, tuple[bytes, bytes]]] = [
        (LIST, b"", (b"x-request-id", b"\xff\xfe")),
        (LIST, b"", (b"traceparent", b"\xff\xfe")),
        (LIST, b"", (b"x-\xff", b"a")),
        (LIST, b"", (b"grpc-timeout", b"soon")),
        (LIST, b"", (b"x-request-id-bin", b"!!!")),
        (LIST, b"", GZIP),
        (CLASSIFY, GARBAGE, NOTHING),
        (STREAM, GARBAGE, NOTHING),
        (b"/grpc.health.v1.Health/Watch", GARBAGE, NOTHING),
        (b"/no.such/Method", b"", NOTHING),
    ]
    with server_process(tmp_path / "repository", tmp_path / "log") as server:
        before = len(server.log.read_text().splitlines())
        began = time.monotonic()
        for method, body, header in hostile:
            for _ in range(5):
                with RawConnection(server.grpc_port) as connection:
                    connection.call(method, body, header, compressed=header is GZIP)
                with RawConnection(server.grpc_port) as connection:
                    connection.reset(method, header)
        seconds = time.monotonic() - began
        lines = server.log.read_text().splitlines()[before:]
        # What is not text in metadata is the one kind that is logged.
        assert len(lines) <= seconds + 1, lines
        assert not any("Traceback" in line or "ERROR" in line for line in lines)
        assert 'code="INTERNAL"' not in server.metrics()
