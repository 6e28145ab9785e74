"""Calls that do not send their message take no place from those that do, and end."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc

from convd.protos.convd.v1 import classification_pb2 as pb
from convd.protos.convd.v1.classification_pb2_grpc import ClassificationServiceStub
from tests.support import running_server, wait_until
from tests.tiny_artifact import publish_tiny

LIST = "/convd.v1.ClassificationService/ListModels"


def silent_calls(channel: grpc.Channel, count: int) -> tuple[threading.Event, list[Any]]:
    """Calls that have headers only; the event lets them end."""
    over = threading.Event()

    def nothing() -> Iterator[bytes]:
        over.wait()
        yield from ()

    call = channel.stream_unary(LIST, lambda message: message, lambda message: message)
    return over, [call.future(nothing()) for _ in range(count)]


def test_silent_calls_hold_up_nobody_and_are_ended(tmp_path: Path) -> None:
    publish_tiny(tmp_path)
    with running_server(tmp_path, unary_threads=24, message_timeout_seconds=1.0) as client:
        address = f"127.0.0.1:{client.grpc_port}"
        options = [("grpc.use_local_subchannel_pool", 1)]
        with grpc.insecure_channel(address, options=options) as channel:
            over, calls = silent_calls(channel, 150)
            with grpc.insecure_channel(address, options=options) as other:
                stub = ClassificationServiceStub(other)
                for _ in range(50):
                    assert stub.ListModels(pb.ListModelsRequest(), timeout=10).models
            # The first of them came before there were many, and are not watched.
            wait_until(lambda: sum(call.done() for call in calls) >= 150 - 24 - 17)
            ended = [call for call in calls if call.done()]
            assert {call.code() for call in ended} == {grpc.StatusCode.CANCELLED}
            assert client.stub.ListModels(pb.ListModelsRequest(), timeout=10).models
            over.set()
