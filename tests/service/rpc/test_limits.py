"""Limits of each principal, at a real server."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import pytest
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2_grpc import HealthStub

from convd.protos.convd.v1 import classification_pb2 as pb
from convd.protos.inference import grpc_service_pb2 as infer_pb
from convd.protos.inference.grpc_service_pb2_grpc import GRPCInferenceServiceStub
from testbed.principals import bearer, write_principals
from tests.digits import Digits
from tests.support import Client, running_server, wait_until

EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED


class Limited(NamedTuple):
    """A server, and the token of each principal."""

    client: Client
    tokens: dict[str, str]


@pytest.fixture(scope="module")
def limited(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Limited]:
    root = tmp_path_factory.mktemp("limited")
    limits = {
        "few": {"requests_per_second": 0.01},
        "stream": {"requests_per_second": 0.01},
        "small": {"pixels_per_second": 8.0},
        "short": {"request_bytes": 2000},
        "single": {"concurrent_calls": 1},
        "watcher": {"concurrent_calls": 1},
        "free": {},
    }
    tokens = write_principals(
        root / "principals.json",
        {name: ["infer:digits", "health"] for name in limits},
        **{name: {"limits": limit} for name, limit in limits.items()},
    )
    with running_server(models, principals=root / "principals.json") as client:
        yield Limited(client, tokens)


def refusal(limited: Limited, name: str, *images: bytes) -> grpc.RpcError | None:
    """The refusal of a request; None if it was answered."""
    try:
        limited.client.classify(*images, metadata=bearer(limited.tokens[name]))
    except grpc.RpcError as error:
        return error
    return None


def trailers_of(error: grpc.RpcError) -> dict[str, str]:
    return {one.key: str(one.value) for one in error.trailing_metadata() or ()}


def check_hint(error: grpc.RpcError | None, text: str, seconds: float) -> None:
    assert error is not None
    assert error.code() is EXHAUSTED
    assert text in (error.details() or "")
    trailers = trailers_of(error)
    assert seconds - 1 < float(trailers["retry-after"]) <= seconds + 1
    assert int(trailers["grpc-retry-pushback-ms"]) > 0


def test_requests_per_second(limited: Limited, digits: Digits) -> None:
    assert refusal(limited, "few", digits.encoded()) is None
    error = refusal(limited, "few", digits.encoded())
    check_hint(error, "0.01 requests per second", 100)
    assert refusal(limited, "free", digits.encoded()) is None, "it is the limit of one"


def test_each_message_of_a_stream_is_a_request(limited: Limited, digits: Digits) -> None:
    message = pb.ClassifyStreamRequest(
        request=pb.ClassifyRequest(
            model=pb.ModelSpec(name="digits"), images=[pb.Image(encoded=digits.encoded())]
        )
    )
    answers = iter(
        limited.client.stub.ClassifyStream(
            iter([message, message]), metadata=bearer(limited.tokens["stream"]), timeout=20
        )
    )
    assert next(answers).response.results
    with pytest.raises(grpc.RpcError) as refused:
        next(answers)
    check_hint(refused.value, "requests per second", 100)


def test_decoded_pixels_per_second(limited: Limited, digits: Digits) -> None:
    assert refusal(limited, "small", digits.encoded()) is None, "the first finds a full bucket"
    height, width = digits.picture(0).size
    wait_seconds = height * width / 8.0
    check_hint(refusal(limited, "small", digits.encoded()), "pixels per second", wait_seconds)


def test_the_largest_request(limited: Limited, digits: Digits) -> None:
    assert refusal(limited, "short", digits.encoded()) is None
    error = refusal(limited, "short", *[digits.encoded()] * 20)
    assert error is not None
    assert error.code() is EXHAUSTED
    assert "over your limit of 2000" in (error.details() or "")
    assert "retry-after" not in trailers_of(error), "it will never be let in"


def test_concurrent_calls(limited: Limited, digits: Digits) -> None:
    stub = GRPCInferenceServiceStub(limited.client.channel)
    hold = threading.Event()

    def messages() -> Iterator[infer_pb.ModelInferRequest]:
        yield infer_pb.ModelInferRequest(model_name="digits")
        hold.wait(20)

    metadata = bearer(limited.tokens["single"])
    stream = iter(stub.ModelStreamInfer(messages(), metadata=metadata, timeout=30))
    assert next(stream).error_message
    check_hint(refusal(limited, "single", digits.encoded()), "calls are in progress", 1)
    hold.set()
    assert next(stream, None) is None
    wait_until(lambda: refusal(limited, "single", digits.encoded()) is None)


def test_a_health_watch_is_a_call_in_progress(limited: Limited) -> None:
    stub = HealthStub(limited.client.channel)

    def watch() -> Any:
        request = health_pb2.HealthCheckRequest()
        return stub.Watch(request, metadata=bearer(limited.tokens["watcher"]), timeout=30)

    first = watch()
    next(first)
    with pytest.raises(grpc.RpcError) as refused:
        next(watch())
    check_hint(refused.value, "calls are in progress", 1)
    first.cancel()

    def is_let_in() -> bool:
        call = watch()
        try:
            next(call)
        except grpc.RpcError:
            return False
        call.cancel()
        return True

    wait_until(is_let_in)
