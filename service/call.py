"""What every room of the service may know about the call that it works for."""

from dataclasses import dataclass, field

from service.batching.cancellation import Cancellation
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
        times: Where the time of the request goes that it brought last.
    """

    request_id: str = ""
    method: str = ""
    deadline: float | None = None
    cancellation: Cancellation = field(default_factory=Cancellation)
    model: str = ""
    version: str = ""
    times: RequestTimes = field(default_factory=RequestTimes)
