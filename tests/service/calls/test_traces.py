"""Traces of real calls: which spans there are, how they hang together, and where they go."""

import queue
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as otlp
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as otlp_grpc
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from convd.protos.convd.v1 import classification_pb2 as pb
from convd.service.calls.call import Call
from convd.service.calls.spans import SpanTracer
from convd.service.calls.tracing import open_tracer
from convd.service.settings import SettingsError
from convd.service.settings_sources import load_settings
from tests.digits import Digits
from tests.support import http_request, running_server

STAGES = ["decode", "preprocess", "queue", "inference", "postprocess"]
METHOD = "convd.v1.ClassificationService/Classify"
TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
PARENT_ID = "b7ad6b7169203331"


class Spans:
    """What the in-memory exporter has received."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.tracer = SpanTracer(provider)

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.exporter.get_finished_spans() if span.name == name]

    def children(self, parent: ReadableSpan) -> list[ReadableSpan]:
        """In the order of their begin."""
        spans = self.exporter.get_finished_spans()
        mine = [one for one in spans if one.parent and one.parent.span_id == span_id(parent)]
        return sorted(mine, key=lambda span: (span.start_time or 0, span.end_time or 0))


def span_id(span: ReadableSpan) -> int:
    assert span.context is not None
    return int(span.context.span_id)


def trace_id(span: ReadableSpan) -> str:
    assert span.context is not None
    return f"{span.context.trace_id:032x}"


def linked(span: ReadableSpan) -> list[int]:
    return [link.context.span_id for link in span.links]


@pytest.fixture
def spans() -> Spans:
    return Spans()


def test_one_request_through_a_batch_of_eight_shows_all_stages_and_links(
    repository: Path, digits: Digits, spans: Spans
) -> None:
    # A batch is held back until eight rows have come, or for longer than a test may take.
    limits: dict[str, Any] = {"max_batch_size": 8, "max_queue_delay_seconds": 60.0}
    with (
        running_server(repository, tracer=spans.tracer, **limits) as client,
        ThreadPoolExecutor(8) as threads,
    ):
        answers = threads.map(client.classify, [digits.encoded()] * 8)
        assert len(list(answers)) == 8
    servers = spans.named(METHOD)
    assert len(servers) == 8
    [batch] = spans.named("batch")
    assert batch.attributes == {"convd.batch.rows": 8}
    assert Counter(linked(batch)) == Counter(map(span_id, servers))
    assert sum(batch in spans.children(server) for server in servers) == 1
    for server in servers:
        children = spans.children(server)
        stages = [span for span in children if span is not batch]
        assert [span.name for span in stages] == STAGES
        inference = stages[3]
        assert linked(inference) == [span_id(batch)]
        assert inference.attributes == {"convd.batch.rows": 8}
        assert {trace_id(span) for span in stages} == {trace_id(server)}
        # One stage begins where the one before it has ended, and all of them lie within the call.
        times = [moment for span in stages for moment in (span.start_time, span.end_time)]
        moments = [moment for moment in times if moment is not None]
        assert len(moments) == 10
        assert moments == sorted(moments)
        assert server.start_time is not None
        assert server.end_time is not None
        slack = 5_000_000  # the system's clock, which the call itself is timed by, may be adjusted
        assert server.start_time - slack <= moments[0]
        assert moments[-1] <= server.end_time + slack


def test_a_call_goes_on_with_the_trace_of_its_caller(
    repository: Path, digits: Digits, spans: Spans
) -> None:
    sampled = (("traceparent", f"00-{TRACE_ID}-{PARENT_ID}-01"), ("x-request-id", "mine"))
    unsampled = (("traceparent", f"00-{TRACE_ID}-{PARENT_ID}-00"),)
    picture = digits.encoded()
    with running_server(repository, tracer=spans.tracer) as client:
        client.classify(picture, metadata=sampled)
        client.classify(picture, metadata=unsampled)
        client.classify(picture, metadata=(("traceparent", "no trace"),))
    first, last = spans.named(METHOD)
    assert trace_id(first) == TRACE_ID
    assert first.parent is not None
    assert f"{first.parent.span_id:016x}" == PARENT_ID
    assert first.kind is SpanKind.SERVER
    assert first.attributes == {
        "rpc.system.name": "grpc",
        "rpc.method": METHOD,
        "rpc.response.status_code": "OK",
        "convd.model.name": "digits",
        "convd.model.version": "1",
        "convd.request.id": "mine",
    }
    assert last.parent is None
    assert trace_id(last) != TRACE_ID


def test_refusals_are_traced_and_only_failures_of_the_server_are_errors(
    repository: Path, spans: Spans
) -> None:
    with running_server(repository, tracer=spans.tracer) as client:
        for image, model in ((b"no image", "digits"), (b"", "nobody")):
            with pytest.raises(grpc.RpcError):
                client.classify(image, model=model)
    invalid, missing = spans.named(METHOD)
    for span, code in ((invalid, "INVALID_ARGUMENT"), (missing, "NOT_FOUND")):
        assert span.attributes is not None
        assert span.attributes["rpc.response.status_code"] == code
        assert span.status.status_code is StatusCode.UNSET
        assert spans.children(span) == []


def test_an_engine_that_fails_is_seen_in_the_batch_and_in_the_call(spans: Spans) -> None:
    call = Call(method="/service/Method")
    spans.tracer.begin(call, {})
    assert call.trace is not None

    def fail() -> None:
        assert call.trace is not None
        with call.trace.batch([call.trace], 1):
            raise ValueError("secret")

    with pytest.raises(ValueError, match="secret"):
        fail()
    call.code = "INTERNAL"
    spans.tracer.end(call)
    [batch], [server] = spans.named("batch"), spans.named("service/Method")
    assert batch.status.description == "ValueError"
    assert server.status.status_code is StatusCode.ERROR
    assert "secret" not in batch.to_json() + server.to_json()


def test_an_image_that_is_tried_in_the_console_is_traced(
    repository: Path, digits: Digits, spans: Spans
) -> None:
    with running_server(repository, tracer=spans.tracer) as client:
        headers = {"Traceparent": f"00-{TRACE_ID}-{PARENT_ID}-01"}
        path, picture = "/api/classify?model=digits", digits.encoded()
        assert http_request(client.http_port, "POST", path, picture, **headers)[0] == 200
    [server] = spans.named("console/classify")
    assert trace_id(server) == TRACE_ID
    names = [span.name for span in spans.children(server) if span.name != "batch"]
    assert names == STAGES


def test_each_request_of_a_stream_has_its_stages(
    repository: Path, digits: Digits, spans: Spans
) -> None:
    image = pb.Image(encoded=digits.encoded())
    request = pb.ClassifyRequest(model=pb.ModelSpec(name="digits"), images=[image])
    messages = [pb.ClassifyStreamRequest(id=str(turn), request=request) for turn in range(3)]
    with running_server(repository, tracer=spans.tracer) as client:
        assert len(list(client.stub.ClassifyStream(iter(messages), timeout=30))) == 3
    [server] = spans.named("convd.v1.ClassificationService/ClassifyStream")
    assert Counter(span.name for span in spans.children(server)) == dict.fromkeys(
        [*STAGES, "batch"], 3
    )


@pytest.mark.parametrize(
    ("traceparent", "expected"),
    [
        (f"00-{TRACE_ID}-{PARENT_ID}-01", TRACE_ID),
        (f"00-{TRACE_ID}-{PARENT_ID}-03", TRACE_ID),
        (f"cc-{TRACE_ID}-{PARENT_ID}-01-more", TRACE_ID),
        (f"00-{TRACE_ID}-{PARENT_ID}-00", ""),
        (f"00-{TRACE_ID}-{PARENT_ID}-01\n", ""),
        (f"00-{TRACE_ID.upper()}-{PARENT_ID}-01", ""),
        ("", ""),
    ],
)
def test_the_log_follows_a_sampled_trace_even_where_convd_makes_none(
    traceparent: str, expected: str
) -> None:
    call = Call()
    call.follow(traceparent)
    assert call.trace_id == expected


class Collector(otlp_grpc.TraceServiceServicer):
    """Receives what an exporter sends."""

    def __init__(self) -> None:
        self.received: queue.SimpleQueue[otlp.ExportTraceServiceRequest] = queue.SimpleQueue()

    def Export(  # noqa: N802
        self,
        request: otlp.ExportTraceServiceRequest,
        context: grpc.ServicerContext,  # noqa: ARG002
    ) -> otlp.ExportTraceServiceResponse:
        self.received.put(request)
        return otlp.ExportTraceServiceResponse()


@contextmanager
def running_collector() -> Iterator[tuple[Collector, str]]:
    collector = Collector()
    server = grpc.server(ThreadPoolExecutor(1))
    otlp_grpc.add_TraceServiceServicer_to_server(collector, server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield collector, f"http://127.0.0.1:{port}"
    finally:
        server.stop(None).wait()


def received_spans(collector: Collector) -> Counter[tuple[str, str]]:
    """Names of the spans with the service that they come from."""
    found: Counter[tuple[str, str]] = Counter()
    while not collector.received.empty():
        for resource in collector.received.get().resource_spans:
            attributes = {one.key: one.value.string_value for one in resource.resource.attributes}
            for scope in resource.scope_spans:
                found.update((attributes["service.name"], span.name) for span in scope.spans)
    return found


@pytest.mark.parametrize("by_variable", [False, True])
def test_spans_reach_a_collector_before_the_server_has_stopped(
    repository: Path,
    digits: Digits,
    monkeypatch: pytest.MonkeyPatch,
    by_variable: bool,
) -> None:
    with running_collector() as (collector, endpoint):
        settings: dict[str, Any] = {"traces_endpoint": endpoint}
        if by_variable:
            monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
            monkeypatch.setenv("OTEL_SERVICE_NAME", "digits-server")
            settings = {}
        with running_server(repository, **settings) as client:
            client.classify(digits.encoded())
        service = "digits-server" if by_variable else "convd"
        expected = [(service, name) for name in (METHOD, "batch", *STAGES)]
        assert received_spans(collector) == Counter(expected)


def test_a_collector_that_is_not_there_holds_up_nothing(repository: Path, digits: Digits) -> None:
    settings: dict[str, Any] = {"traces_endpoint": "http://127.0.0.1:1", "drain_seconds": 1.0}
    with running_server(repository, **settings) as client:
        client.classify(digits.encoded())


def test_closing_waits_for_its_time_only() -> None:
    given_up = threading.Event()

    class Stubborn(TracerProvider):
        def shutdown(self) -> None:
            given_up.wait(60)

    SpanTracer(Stubborn(shutdown_on_exit=False)).close(0.01)
    assert not given_up.is_set()
    given_up.set()


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": ""},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_SDK_DISABLED": "true"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_TRACES_EXPORTER": "none"},
    ],
)
def test_nobody_is_traced_who_did_not_ask_for_it(
    variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert open_tracer("") is None


def test_without_opentelemetry_the_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "convd.service.calls.spans", None)
    with pytest.raises(SettingsError, match=r"'\.\[traces\]'"):
        open_tracer("http://127.0.0.1:4317")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4317")
    assert open_tracer("") is None
    assert "'.[traces]'" in caplog.text


@pytest.mark.parametrize("endpoint", ["127.0.0.1:4317", "http://", "file:///x", "http://a b"])
def test_an_endpoint_that_is_no_url_is_refused(endpoint: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="--traces-endpoint"):
        load_settings({"repository": tmp_path, "traces_endpoint": endpoint})
