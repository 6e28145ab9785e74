"""Every call is counted, and logged where that is wished, whatever protocol it came by."""

import logging
import random
import time

from service.call import Call, set_current_call
from service.metrics import Metrics

access_logger = logging.getLogger("convd.access")


class CallRecorder:
    """Notes the begin and the end of every call; each transport tells it of both.

    Args:
        metrics: Where calls are counted.
        access_log_sample_rate: Share of the calls that are logged when they end, 0 to 1.
    """

    def __init__(self, metrics: Metrics, *, access_log_sample_rate: float = 0.0) -> None:
        self._metrics = metrics
        self._access_log_sample_rate = access_log_sample_rate

    def begin(self, call: Call) -> None:
        """Let this thread work for a call."""
        set_current_call(call)

    def end(self, call: Call) -> None:
        """Note how a call has ended; the thread works for it no longer."""
        seconds = time.monotonic() - call.started_at
        self._metrics.request_answered(
            model=call.model,
            version=call.version,
            method=call.method,
            code=call.code,
            seconds=seconds,
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
        set_current_call(None)
