"""One call of a client: what every part of the service may know about it."""

import re
import secrets
import time
from collections.abc import Callable
from contextvars import ContextVar
from typing import Protocol

from convd.service.access.principal import Principal
from convd.service.batching.entry import EntryTrace
from convd.service.cancellation import Cancellation
from convd.service.errors import CallerGoneError, DeadlineExceededError

# https://www.w3.org/TR/trace-context/: version, trace, span and flags, of which 1 means sampled.
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f][13579bdf](?:-.*)?")


class CallTrace(EntryTrace, Protocol):
    """Records the stages of one call, with times of `time.perf_counter_ns`."""

    def stage(self, name: str, started_at: int, ended_at: int) -> None:
        """Record one stage of the call."""

    def submitted(self, started_at: int, ended_at: int) -> None:
        """Record the stages between the submission of rows and their answer: queue and batches."""


class Call(Cancellation):
    """One call of a client, over any protocol; it can be cancelled.

    Args:
        method: Full name of the method, such as `/convd.v1.ClassificationService/Classify`.
        protocol: `grpc` or `http`.
        deadline: When the caller stops waiting, in seconds of `time.monotonic`; None for never.
        request_id: The caller's id for it, or one that the server made; empty until needed.
        trace_id: The sampled trace that it belongs to, 32 hexadecimal digits; empty for none.
        principal: Whose call it is; None where anyone may do everything.

    Attributes:
        model: Name of the model, once it is resolved; empty before.
        version: Version of the model, once it is resolved; empty before.
        code: Name of the gRPC status code that it ended with.
        refusal: The text that its caller got with another code than OK.
        started_at: When it began, in seconds of `time.monotonic`.
        trace: Records its stages; None if the call is not traced.
    """

    # On the class, since few calls have another value: each attribute that is set takes time.
    model = ""
    version = ""
    code = "OK"
    refusal = ""
    trace: CallTrace | None = None

    def __init__(
        self,
        *,
        method: str = "",
        protocol: str = "grpc",
        deadline: float | None = None,
        request_id: str = "",
        trace_id: str = "",
        principal: Principal | None = None,
    ) -> None:
        self.method = method
        self.protocol = protocol
        self.deadline = deadline
        self.request_id = request_id
        self.trace_id = trace_id
        self.principal = principal
        self.started_at = time.monotonic()

    def follow(self, traceparent: str) -> None:
        """Adopt the caller's trace id, if the caller samples that trace."""
        match = _TRACEPARENT.fullmatch(traceparent)
        if match is not None:
            self.trace_id = match[1]

    def identify(self) -> str:
        """Return the request's id; make one if the caller sent none."""
        if not self.request_id:
            self.request_id = secrets.token_hex(8)
        return self.request_id

    def is_late(self) -> bool:
        """Whether the deadline has passed."""
        return self.deadline is not None and self.deadline <= time.monotonic()

    def check_wanted(self) -> None:
        """Raise if the caller no longer waits.

        Raises:
            CallerGoneError: The caller has gone.
            DeadlineExceededError: The deadline has passed.
        """
        if self.cancelled:
            raise CallerGoneError("the caller has gone")
        if self.is_late():
            raise DeadlineExceededError("the deadline passed before the images were prepared")


_current_call: ContextVar[Call | None] = ContextVar("current_call", default=None)


set_current_call: Callable[[Call | None], object] = _current_call.set
"""Sets the call that this thread works for; None once it has ended."""


def call_in_progress() -> Call | None:
    """The call that this thread works for, or None."""
    return _current_call.get()


def current_call() -> Call:
    """The call that this thread works for; the interceptor sets it before every method.

    Raises:
        LookupError: This thread is not working for a call.
    """
    call = _current_call.get()
    if call is None:
        raise LookupError("no call is in progress in this thread")
    return call
