"""Counts, traces and logs every call, over any protocol."""

import logging
import random
import time
from collections.abc import Mapping
from typing import Protocol

from convd.service.calls.call import Call, set_current_call
from convd.service.calls.refusals import RefusalLog
from convd.service.metrics import Metrics

TRACEPARENT_KEY = "traceparent"

access_logger = logging.getLogger("convd.access")

Metadata = Mapping[str, str | bytes]


class CallTracer(Protocol):
    """Traces calls, and sets `trace` and `trace_id` of those that are sampled."""

    def begin(self, call: Call, metadata: Metadata) -> None:
        """Begin the span of a call, in the trace that its metadata names, if any."""

    def end(self, call: Call) -> None:
        """End the span of a call with its status code."""


class CallRecorder:
    """Records the beginning and the end of every call; each transport reports both.

    Args:
        metrics: Where calls are counted.
        tracer: Traces calls; None for no traces.
        access_log_sample_rate: Fraction of calls to log when they end, 0 to 1.

    Attributes:
        metrics: Where calls are counted.
    """

    def __init__(
        self,
        metrics: Metrics,
        tracer: CallTracer | None = None,
        *,
        access_log_sample_rate: float = 0.0,
    ) -> None:
        self.metrics = metrics
        self._tracer = tracer
        self._access_log_sample_rate = access_log_sample_rate
        self._refusals = RefusalLog()

    def begin(self, call: Call, metadata: Metadata) -> None:
        """Make a call the one that this thread works for, and begin its trace.

        Args:
            call: The call.
            metadata: Its metadata or headers, with keys in lower case.
        """
        set_current_call(call)
        if TRACEPARENT_KEY in metadata:
            call.follow(str(metadata[TRACEPARENT_KEY]))
        if self._tracer is not None:
            self._tracer.begin(call, metadata)

    def end(self, call: Call) -> None:
        """Count, log and trace the end of a call; the thread no longer works for it."""
        seconds = time.monotonic() - call.started_at
        self.metrics.request_answered(
            (call.model, call.version, call.method, call.code), seconds, call.trace_id
        )
        if call.code != "OK":
            self._refusals.refused(call)
        if call.principal is not None:
            self.metrics.principals.answered(call.principal.name, call.code)
        # Not for secrets: a sample.
        if self._access_log_sample_rate and random.random() < self._access_log_sample_rate:  # noqa: S311
            access_logger.info(
                "%s %s in %.1f ms",
                call.method,
                call.code,
                seconds * 1000,
                extra={"code": call.code, "duration_seconds": round(seconds, 6)},
            )
        if self._tracer is not None:
            self._tracer.end(call)
        set_current_call(None)
