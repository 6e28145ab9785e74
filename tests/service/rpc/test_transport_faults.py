"""What clients do wrong below the messages is theirs: refused with an id, and counted as such."""

from collections.abc import Iterator

import grpc
import pytest

from tests.support import Client, running_server
from tests.tiny_artifact import publish_tiny

GARBAGE = b"\xff\xff\xff\xff"


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
