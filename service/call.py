"""What every room of the service may know about the call that it works for."""

import time
from dataclasses import dataclass, field

from service.batching.cancellation import Cancellation
from service.errors import CallerGoneError, DeadlineExceededError
from service.statistics import RequestTimes


@dataclass
class Call:
    """One call of a client, whatever protocol it came by.

    Attributes:
        request_id: The caller's id for it, or one that the server made.
        method: Full name of the method, such as `/convd.v1.ClassificationService/Classify`.
        deadline: When the caller stops waiting, in seconds of `time.monotonic`; None for never.
        cancellation: Tells when the caller has gone.
        model: The model that it was resolved to; empty until then.
        version: The version that it was resolved to; empty until then.
        trace_id: The trace that it belongs to, where it is sampled; empty otherwise.
        times: Where the time of the request goes that it brought last.
    """

    request_id: str = ""
    method: str = ""
    deadline: float | None = None
    cancellation: Cancellation = field(default_factory=Cancellation)
    model: str = ""
    version: str = ""
    trace_id: str = ""
    times: RequestTimes = field(default_factory=RequestTimes)

    def check_wanted(self) -> None:
        """Stop working for a caller who no longer waits.

        Raises:
            CallerGoneError: The caller has gone.
            DeadlineExceededError: The deadline has passed.
        """
        if self.cancellation.cancelled:
            raise CallerGoneError("the caller has gone")
        if self.deadline is not None and self.deadline <= time.monotonic():
            raise DeadlineExceededError("the deadline passed before the images were prepared")
