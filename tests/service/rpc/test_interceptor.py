import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest

from convd.service.calls.call import Call, current_call
from convd.service.calls.gate import CallGate
from convd.service.calls.recorder import CallRecorder
from convd.service.calls.status import error_status
from convd.service.errors import CallerGoneError
from convd.service.metrics import Metrics
from convd.service.rpc.interceptor import CallInterceptor
from convd.service.settings_sources import load_settings


@pytest.mark.parametrize(
    ("remaining_seconds", "code"),
    [
        (None, grpc.StatusCode.CANCELLED),
        (3600.0, grpc.StatusCode.CANCELLED),
        (-1.0, grpc.StatusCode.DEADLINE_EXCEEDED),
    ],
)
def test_a_deadline_that_passed_is_not_counted_as_a_caller_who_hung_up(
    remaining_seconds: float | None, code: grpc.StatusCode
) -> None:
    deadline = None if remaining_seconds is None else time.monotonic() + remaining_seconds
    assert error_status(CallerGoneError("gone"), Call(deadline=deadline)).code is code


def _same(message: bytes) -> bytes:
    return message


@pytest.mark.parametrize("timeout_seconds", [None, 3600.0])
def test_a_call_has_the_deadline_of_its_caller_or_none(
    timeout_seconds: float | None, tmp_path: Path
) -> None:
    """Who waits for ever costs the batcher no thought of deadlines."""
    deadlines: list[float | None] = []

    def answer(request: bytes, context: grpc.ServicerContext) -> bytes:  # noqa: ARG001
        deadlines.append(current_call().deadline)
        return request

    handler = grpc.unary_unary_rpc_method_handler(answer)
    recorder = CallRecorder(Metrics())
    server = grpc.server(
        ThreadPoolExecutor(1),
        handlers=[grpc.method_handlers_generic_handler("a", {"b": handler})],
        interceptors=[
            CallInterceptor(recorder, CallGate(), load_settings({"repository": tmp_path}))
        ],
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    began = time.monotonic()
    try:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            call = channel.unary_unary("/a/b", _same, _same)
            call(b"", timeout=timeout_seconds)
    finally:
        server.stop(None)
    (deadline,) = deadlines
    if timeout_seconds is None:
        assert deadline is None
    else:
        assert deadline is not None
        assert deadline - began == pytest.approx(timeout_seconds, rel=0.01)
