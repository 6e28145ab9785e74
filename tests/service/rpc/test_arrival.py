"""Calls that are begun and not finished by callers without credentials."""

import contextlib
import gc
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from testbed.principals import bearer, write_principals
from testbed.raw_http2 import RawConnection
from tests.digits import Digits
from tests.support import Client, running_server

CLASSIFY = b"/convd.v1.ClassificationService/Classify"
CHECK = b"/grpc.health.v1.Health/Check"
UNAUTHENTICATED, PERMISSION_DENIED, UNIMPLEMENTED = 16, 7, 12
HALF_SENT = 60


class Guarded(NamedTuple):
    """A server with few threads, and the token of each principal."""

    client: Client
    tokens: dict[str, str]


@pytest.fixture(scope="module")
def guarded(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    root = tmp_path_factory.mktemp("guarded")
    tokens = write_principals(
        root / "principals.json",
        {
            "lab": ["infer:digits", "health", "metrics:read"],
            "camera": ["infer:digits"],
            "nothing": [],
        },
    )
    with running_server(
        models,
        principals=root / "principals.json",
        unary_threads=4,
        response_cache_bytes=1_000_000,
    ) as client:
        yield Guarded(client, tokens)


def threads(prefix: str = "") -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name.startswith(prefix)}


@contextlib.contextmanager
def half_sent(port: int, method: bytes, count: int) -> Iterator[list[RawConnection]]:
    """Calls of which only the headers were sent."""
    with contextlib.ExitStack() as stack:
        calls = [stack.enter_context(RawConnection(port)) for _ in range(count)]
        for call in calls:
            call.begin(method)
        yield calls


@pytest.mark.parametrize(
    "method",
    [
        CLASSIFY,
        b"/convd.v1.ClassificationService/ClassifyStream",
        b"/grpc.health.v1.Health/Watch",
        b"/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    ],
)
def test_a_refusal_needs_no_message_and_no_thread(guarded: Guarded, method: bytes) -> None:
    before = threads()
    with half_sent(guarded.client.grpc_port, method, HALF_SENT) as calls:
        assert [call.answer().status for call in calls] == [UNAUTHENTICATED] * HALF_SENT
    assert threads() <= before


def test_a_forbidden_call_needs_no_message(guarded: Guarded) -> None:
    header = (b"authorization", f"Bearer {guarded.tokens['nothing']}".encode())
    with RawConnection(guarded.client.grpc_port) as call:
        call.begin(CLASSIFY, header)
        assert call.answer().status == PERMISSION_DENIED


def test_half_sent_health_checks_hold_up_nobody(guarded: Guarded, digits: Digits) -> None:
    before = threads()
    with half_sent(guarded.client.grpc_port, CHECK, HALF_SENT):
        metadata = bearer(guarded.tokens["lab"])
        assert guarded.client.classify(digits.encoded(), metadata=metadata).results
        check = health_pb2_grpc.HealthStub(guarded.client.channel).Check
        assert check(health_pb2.HealthCheckRequest(service="digits"), metadata=metadata).status
        # Those without credentials take the place of those who have waited longest.
        assert check(health_pb2.HealthCheckRequest(), timeout=20).status
        assert len(threads("unary") - before) <= 4
        assert len(threads("anonymous") - before) <= 5


def test_an_unknown_method_is_unknown_to_everybody(guarded: Guarded) -> None:
    with RawConnection(guarded.client.grpc_port) as call:
        call.begin(b"/convd.v1.ClassificationService/Nothing")
        assert call.answer().status == UNIMPLEMENTED


@pytest.mark.parametrize("value", [b"Basic abc", b"Bearer", b"Bearer ", b"bearer\xff\xfe", b""])
def test_other_credentials_are_none(guarded: Guarded, value: bytes) -> None:
    with RawConnection(guarded.client.grpc_port) as call:
        call.begin(CLASSIFY, (b"authorization", value))
        assert call.answer().status == UNAUTHENTICATED


def test_the_scheme_may_be_written_in_any_case(guarded: Guarded, digits: Digits) -> None:
    metadata = (("authorization", f"bEARER {guarded.tokens['lab']}"),)
    assert guarded.client.classify(digits.encoded(), metadata=metadata).results


def test_a_refusal_tells_nothing(guarded: Guarded) -> None:
    texts = set()
    for token in ("wrong", guarded.tokens["lab"][:-1]):
        with pytest.raises(grpc.RpcError) as refused:
            guarded.client.classify(b"", metadata=bearer(token))
        texts.add(refused.value.details())
    with pytest.raises(grpc.RpcError) as refused:
        guarded.client.classify(b"")
    texts.add(refused.value.details())
    assert len(texts) == 1


def test_a_cached_answer_is_for_the_principal_who_caused_it(
    guarded: Guarded, digits: Digits
) -> None:
    def hits() -> int:
        metrics = guarded.client.get("/metrics", guarded.tokens["lab"])[1]
        name = 'convd_response_cache_rows_total{model="digits",outcome="hit",version="1"} '
        return int(float(metrics.partition(name)[2].partition("\n")[0] or 0))

    def ask(name: str) -> None:
        guarded.client.classify(digits.encoded(7), metadata=bearer(guarded.tokens[name]))

    before = hits()
    ask("lab")
    ask("camera")
    assert hits() == before, "one principal cannot learn what another has sent"
    ask("camera")
    ask("lab")
    assert hits() == before + 2


def test_a_refused_call_leaves_nothing_to_the_garbage_collector(guarded: Guarded) -> None:
    calls = 50
    gc.collect()
    gc.disable()
    try:
        with half_sent(guarded.client.grpc_port, CLASSIFY, calls) as begun:
            assert {call.answer().status for call in begun} == {UNAUTHENTICATED}
        # What a cycle of a call would hold: its state, context, metadata and error.
        assert gc.collect() < calls
    finally:
        gc.enable()
