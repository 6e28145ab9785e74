"""Every call is counted, and logged where that is wished, whatever protocol it came by."""

import logging
import random
import time
from collections.abc import Mapping
from typing import Protocol

from convd.service.calls.call import Call, set_current_call
from convd.service.metrics import Metrics

TRACEPARENT_KEY = "traceparent"

access_logger = logging.getLogger("convd.access")

Metadata = Mapping[str, str | bytes]


class CallTracer(Protocol):
    """Begins and ends the traces of calls; sets `trace` and `trace_id` of those it traces."""

    def begin(self, call: Call, metadata: Metadata) -> None:
        """Begin the trace of a call, or go on with the one that its metadata names."""

    def end(self, call: Call) -> None:
        """End the trace of a call with its code."""


class CallRecorder:
    """Notes the begin and the end of every call; each transport tells it of both.

    Args:
        metrics: Where calls are counted.
        tracer: Traces calls; None for none.
        access_log_sample_rate: Share of the calls that are logged when they end, 0 to 1.

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

    def begin(self, call: Call, metadata: Metadata) -> None:
        """Let this thread work for a call.

        Args:
            call: The call.
            metadata: What came with it: keys in lower case, with their values.
        """
        set_current_call(call)
        if TRACEPARENT_KEY in metadata:
            call.follow(str(metadata[TRACEPARENT_KEY]))
        if self._tracer is not None:
            self._tracer.begin(call, metadata)

    def end(self, call: Call) -> None:
        """Note how a call has ended; the thread works for it no longer."""
        seconds = time.monotonic() - call.started_at
        self.metrics.request_answered(
            (call.model, call.version, call.method, call.code), seconds, call.trace_id
        )
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
