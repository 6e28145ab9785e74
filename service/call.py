"""What every room of the service may know about the call that it works for."""

from collections.abc import Callable
from dataclasses import dataclass


def _never_cancelled(_callback: Callable[[], None]) -> None:
    """For calls without a caller who could go away."""


@dataclass
class Call:
    """One call of a client, whatever protocol it came by.

    Attributes:
        request_id: The caller's id for it, or one that the server made.
        method: Full name of the method, such as `/convd.v1.ClassificationService/Classify`.
        deadline: When the caller stops waiting, in seconds of `time.monotonic`; None for never.
        on_cancel: Takes what is to be done at once when the caller goes away.
        model: The model that it was resolved to; empty until then.
        version: The version that it was resolved to; empty until then.
    """

    request_id: str = ""
    method: str = ""
    deadline: float | None = None
    on_cancel: Callable[[Callable[[], None]], None] = _never_cancelled
    model: str = ""
    version: str = ""
