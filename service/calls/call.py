"""What every room of the service may know about the call that it works for."""

import re
import secrets
import time
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Protocol

from convd.service.batching.entry import EntryTrace
from convd.service.cancellation import Cancellation
from convd.service.errors import CallerGoneError, DeadlineExceededError

# https://www.w3.org/TR/trace-context/: version, trace, span and flags, of which 1 means sampled.
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f][13579bdf](?:-.*)?")


class CallTrace(EntryTrace, Protocol):
    """Records where the time of one call goes; times are of `time.perf_counter_ns`."""

    def stage(self, name: str, started_at: int, ended_at: int) -> None:
        """Record one stage of the call."""

    def submitted(self, started_at: int, ended_at: int) -> None:
        """Record the stages of rows that were submitted then: their queue and their batches."""


@dataclass(slots=True)
class Call:
    """One call of a client, whatever protocol it came by.

    Attributes:
        request_id: The caller's id for it, or one that the server made; empty until needed.
        method: Full name of the method, such as `/convd.v1.ClassificationService/Classify`.
        deadline: When the caller stops waiting, in seconds of `time.monotonic`; None for never.
        cancellation: Tells when the caller has gone.
        model: The model that it was resolved to; empty until then.
        version: The version that it was resolved to; empty until then.
        code: Name of the gRPC status code that it ended with.
        started_at: When it began, in seconds of `time.monotonic`.
        protocol: How it came.
        trace_id: The sampled trace that it belongs to, 32 hexadecimal digits; empty for none.
        trace: Records its stages; None where it is not traced.
    """

    request_id: str = ""
    method: str = ""
    deadline: float | None = None
    cancellation: Cancellation = field(default_factory=Cancellation)
    model: str = ""
    version: str = ""
    code: str = "OK"
    started_at: float = field(default_factory=time.monotonic)
    protocol: str = "grpc"
    trace_id: str = ""
    trace: CallTrace | None = None

    def follow(self, traceparent: str) -> None:
        """Take the caller's trace id, where the caller samples that trace."""
        match = _TRACEPARENT.fullmatch(traceparent)
        if match is not None:
            self.trace_id = match[1]

    def identify(self) -> str:
        """Return the request's id, and make one where the caller sent none."""
        if not self.request_id:
            self.request_id = secrets.token_hex(8)
        return self.request_id

    def is_late(self) -> bool:
        """Whether the deadline has passed."""
        return self.deadline is not None and self.deadline <= time.monotonic()

    def check_wanted(self) -> None:
        """Stop working for a caller who no longer waits.

        Raises:
            CallerGoneError: The caller has gone.
            DeadlineExceededError: The deadline has passed.
        """
        if self.cancellation.cancelled:
            raise CallerGoneError("the caller has gone")
        if self.is_late():
            raise DeadlineExceededError("the deadline passed before the images were prepared")


_current_call: ContextVar[Call | None] = ContextVar("current_call", default=None)


set_current_call: Callable[[Call | None], object] = _current_call.set
"""Notes which call this thread works for; None once it has ended."""


def call_in_progress() -> Call | None:
    """The call that this thread works for; None outside of any."""
    return _current_call.get()


def current_call() -> Call:
    """The call that this thread works for; set before every method.

    Raises:
        LookupError: This thread works for none.
    """
    call = _current_call.get()
    if call is None:
        raise LookupError("no call is in progress in this thread")
    return call
