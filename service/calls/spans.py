"""OpenTelemetry spans of calls, of their stages and of the batches that they ran in.

A call has one server span with a child for each stage: decode, preprocess, queue, inference,
postprocess. A batch serves many calls, so its span links to the server span of each of them, and
the inference span of each call links to the batch. The batch's span belongs to the trace of its
first traced call, so it is exported whenever one of its calls is sampled.
"""

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from opentelemetry import propagate
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import (
    Link,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    Tracer,
    format_trace_id,
    set_span_in_context,
)

from convd.service.batching.entry import EntryTrace
from convd.service.calls.call import Call
from convd.service.calls.recorder import Metadata

_SERVER_ERRORS = frozenset(
    ["UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"]
)
"""Status codes that count as server errors in OpenTelemetry's conventions for gRPC."""


@dataclass(frozen=True)
class _BatchRun:
    """One run of the engine, with times of `time.perf_counter_ns`."""

    context: SpanContext
    rows: int
    started_at: int
    ended_at: int


class SpanTracer:
    """Makes the spans of calls.

    Args:
        provider: Takes the spans; shut down with the tracer.
    """

    def __init__(self, provider: TracerProvider) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("convd")

    @classmethod
    def exporting(cls, endpoint: str) -> "SpanTracer":
        """Make a tracer that exports spans as OTLP over gRPC.

        OpenTelemetry's variables configure the rest: sampling, headers, certificates, resource.

        Args:
            endpoint: URL of the collector; if empty, the variables decide.
        """
        resource = Resource.create()
        if str(resource.attributes["service.name"]).startswith("unknown_service"):
            resource = resource.merge(Resource({"service.name": "convd"}))
        # Its own exit handler would shut it down before the server has drained.
        provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        exporter = OTLPSpanExporter(endpoint=endpoint or None)
        provider.add_span_processor(BatchSpanProcessor(exporter))
        return cls(provider)

    def begin(self, call: Call, metadata: Metadata) -> None:
        """Begin the server span of a call, in the trace that its metadata names."""
        carrier = {key: value for key, value in metadata.items() if isinstance(value, str)}
        span = self._tracer.start_span(
            call.method.removeprefix("/"),
            context=propagate.extract(carrier),
            kind=SpanKind.SERVER,
            attributes={"rpc.system.name": call.protocol, "rpc.method": call.method.lstrip("/")},
        )
        # A call that is not sampled costs nothing more than this.
        if span.is_recording():
            call.trace = SpanTrace(self._tracer, span)
            call.trace_id = format_trace_id(span.get_span_context().trace_id)

    def end(self, call: Call) -> None:
        """End the server span of a call."""
        if isinstance(call.trace, SpanTrace):
            call.trace.end(call)

    def close(self, timeout_seconds: float) -> None:
        """Export the remaining spans, for at most this long, and stop."""
        # An exporter that cannot reach its collector retries for longer than a drain may take.
        closing = threading.Thread(target=self._provider.shutdown, daemon=True)
        closing.start()
        closing.join(timeout_seconds)


class SpanTrace:
    """The spans of one call.

    Args:
        tracer: Makes them.
        span: The call's server span.
    """

    def __init__(self, tracer: Tracer, span: Span) -> None:
        self._tracer = tracer
        self._span = span
        self._context = set_span_in_context(span, Context())
        # Converts time.perf_counter_ns to nanoseconds since 1970.
        self._epoch = time.time_ns() - time.perf_counter_ns()
        self._runs: list[_BatchRun] = []

    def stage(self, name: str, started_at: int, ended_at: int) -> None:
        """Record one stage, with times of `time.perf_counter_ns`."""
        self._record(name, started_at, ended_at)

    def submitted(self, started_at: int, ended_at: int) -> None:
        """Record the stages between the submission of rows and their answer: queue and batches."""
        runs, self._runs = self._runs, []
        self._record("queue", started_at, runs[0].started_at if runs else ended_at)
        for run in runs:
            self._record(
                "inference",
                run.started_at,
                run.ended_at,
                links=[Link(run.context)],
                attributes={"convd.batch.rows": run.rows},
            )

    @contextmanager
    def batch(self, traces: Sequence[EntryTrace], rows: int) -> Iterator[None]:
        """Record one run of the engine for every traced call in the batch."""
        members = [trace for trace in traces if isinstance(trace, SpanTrace)]
        span = self._tracer.start_span(
            "batch",
            context=self._context,
            links=[Link(member.span_context) for member in members],
            attributes={"convd.batch.rows": rows},
        )
        started_at = time.perf_counter_ns()
        try:
            yield
        except BaseException as error:
            # Only its type: the text may contain what a caller sent.
            span.set_status(Status(StatusCode.ERROR, type(error).__name__))
            raise
        finally:
            ended_at = time.perf_counter_ns()
            span.end()
            run = _BatchRun(span.get_span_context(), rows, started_at, ended_at)
            for member in members:
                member._runs.append(run)

    @property
    def span_context(self) -> SpanContext:
        """The context of the call's server span."""
        return self._span.get_span_context()

    def end(self, call: Call) -> None:
        """End the call's server span."""
        self._span.set_attribute("rpc.response.status_code", call.code)
        if call.model:
            self._span.set_attribute("convd.model.name", call.model)
            self._span.set_attribute("convd.model.version", call.version)
        if call.request_id:
            self._span.set_attribute("convd.request.id", call.request_id)
        if call.code in _SERVER_ERRORS:
            self._span.set_status(Status(StatusCode.ERROR, call.code))
        self._span.end()

    def _record(
        self,
        name: str,
        started_at: int,
        ended_at: int,
        *,
        links: Sequence[Link] = (),
        attributes: Mapping[str, int] | None = None,
    ) -> None:
        span = self._tracer.start_span(
            name,
            context=self._context,
            links=links,
            attributes=attributes,
            start_time=self._epoch + started_at,
        )
        span.end(self._epoch + ended_at)
