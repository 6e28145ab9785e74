"""A call's hold on a servable, from its choice to the answer."""

from contextlib import AbstractContextManager

from convd.service.calls.call import Call
from convd.service.servables.servable import Servable
from convd.service.statistics import NANOSECONDS, RequestTimes


class ServableHold(AbstractContextManager[Servable]):
    """Holds a servable while a call asks it one thing, and counts how that ends.

    Args:
        servable: What is held already, and let go at the end.
        call: Who asks.
    """

    # A generator would be shorter, but it costs a small network's request a noticeable part.
    __slots__ = ("_call", "_servable", "_times")

    def __init__(self, servable: Servable, call: Call) -> None:
        self._servable = servable
        self._call = call
        self._times = call.times = RequestTimes()

    def __enter__(self) -> Servable:
        return self._servable

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        servable, times = self._servable, self._times
        times.ended()
        if error is not None:
            servable.metrics.statistics.failed(times, error)
        elif times.rows:
            servable.metrics.statistics.answered(times)
            servable.metrics.postprocess_seconds.observe(
                (times.ended_at - times.answered_at) / NANOSECONDS
            )
            if self._call.trace is not None:
                self._call.trace.stage("postprocess", times.answered_at, times.ended_at)
        servable.release()
