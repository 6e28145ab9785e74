"""Whether cores have anything to do but work of low priority, whichever model it is for."""

import math

from convd.runtime.interruption import Interruption


class Idleness:
    """Shared by all models that compute on the same cores; safe for threads without a lock.

    Attributes:
        busy_until: When the last batch that answers a request ended, or a request interrupted what
            ran, in seconds of the monotonic clock.
        running: What ends the batches of low priority that run now.
    """

    __slots__ = ("busy_until", "running")

    def __init__(self) -> None:
        self.busy_until = -math.inf
        self.running: set[Interruption] = set()

    def interrupt(self, now: float) -> None:
        """End all batches of low priority, since a request has arrived."""
        # Or they would begin again before the request's batch does.
        self.busy_until = now
        # A copy, since a batch may end meanwhile.
        for interruption in tuple(self.running):
            interruption.set()
