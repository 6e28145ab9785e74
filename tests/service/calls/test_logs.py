"""What the log says, for people and for machines."""

import json
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from convd.protos.convd.v1 import classification_pb2 as pb
from convd.protos.convd.v1.classification_pb2_grpc import ClassificationServiceStub
from convd.service.calls.call import Call, set_current_call
from convd.service.calls.log_format import JsonFormatter, TextFormatter
from testbed.server import server_process
from tests.digits import Digits
from tests.support import running_server


class Lines(logging.Handler):
    """Keeps what a formatter makes of every record."""

    def __init__(self, formatter: logging.Formatter) -> None:
        super().__init__()
        self.setFormatter(formatter)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


@pytest.fixture
def call() -> Iterator[Call]:
    call = Call(method="/service/Method", request_id="r1", trace_id="ab" * 16)
    set_current_call(call)
    yield call
    set_current_call(None)


def record(message: str, *args: Any, **extra: Any) -> logging.LogRecord:
    made = logging.makeLogRecord({"name": "convd", "levelname": "INFO", "msg": message})
    made.args = args
    vars(made).update(extra)
    return made


def test_a_record_outside_of_any_call_has_no_ids() -> None:
    line = json.loads(JsonFormatter().format(record("hello %s", "world")))
    assert line.pop("time").endswith("Z")
    assert line.pop("process") == os.getpid()
    assert line == {"level": "INFO", "logger": "convd", "message": "hello world"}
    assert TextFormatter().format(record("hello")).endswith("INFO convd: hello")


def test_a_record_of_a_call_has_its_ids(call: Call) -> None:
    line = json.loads(JsonFormatter().format(record("two\nlines", code="OK")))
    assert line["request_id"] == "r1"
    assert line["trace_id"] == "ab" * 16
    assert (line["method"], line["code"]) == ("/service/Method", "OK")
    assert "model" not in line, "the call has not been resolved to one"
    text = TextFormatter().format(record("hello"))
    assert text.endswith(f"hello [request_id=r1 trace_id={call.trace_id}]")


def test_json_stays_one_line_whatever_is_logged() -> None:
    try:
        raise ValueError("with\nnewline and \u2028")
    except ValueError:
        exc_info = sys.exc_info()
    line = JsonFormatter().format(record("a\r\nb", exc_info=exc_info, odd=object()))
    assert len(line.split("\n")) == 1
    assert "ValueError: with" in json.loads(line)["exception"]


@pytest.mark.usefixtures("call")
def test_extra_facts_never_replace_the_standard_ones() -> None:
    line = json.loads(JsonFormatter().format(record("hello", request_id="forged", level="forged")))
    assert (line["request_id"], line["level"]) == ("r1", "INFO")


def test_every_record_of_a_call_carries_the_id_that_the_caller_sent(
    repository: Path, digits: Digits, tmp_path: Path
) -> None:
    flags = ("--log-format", "json", "--access-log-sample-rate", "1", "--no-console")
    log = tmp_path / "log"
    request = pb.ClassifyRequest(
        model=pb.ModelSpec(name="digits"),
        images=[pb.Image(encoded=digits.encoded())],
    )
    with server_process(repository, log, *flags) as server:
        with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
            stub = ClassificationServiceStub(channel)
            stub.Classify(request, timeout=30, metadata=(("x-request-id", "mine"),))
            with pytest.raises(grpc.RpcError) as caught:
                stub.Classify(pb.ClassifyRequest(), timeout=30)
            [told] = [one.value for one in caught.value.trailing_metadata() or ()]
        assert server.terminate() == 0
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    access = [line for line in lines if line["logger"] == "convd.access"]
    assert [line["code"] for line in access] == ["OK", "INVALID_ARGUMENT"]
    assert [line["request_id"] for line in access] == ["mine", told]
    assert (access[0]["model"], access[0]["version"]) == ("digits", "1")
    assert access[0]["duration_seconds"] > 0
    of_calls = ("convd.access", "convd.service.calls.refusals")
    assert all("request_id" not in line for line in lines if line["logger"] not in of_calls)


@pytest.mark.parametrize(("rate", "fewest", "most"), [(0.0, 0, 0), (0.5, 5, 95), (1.0, 100, 100)])
def test_the_access_log_is_off_or_a_sample(
    repository: Path, digits: Digits, rate: float, fewest: int, most: int
) -> None:
    seen = Lines(JsonFormatter())
    logger = logging.getLogger("convd.access")
    logger.addHandler(seen)
    logger.setLevel(logging.INFO)
    try:
        with running_server(repository, access_log_sample_rate=rate) as client:
            for _ in range(100):
                client.classify(digits.encoded())
    finally:
        logger.removeHandler(seen)
        logger.setLevel(logging.NOTSET)
    assert fewest <= len(seen.lines) <= most
