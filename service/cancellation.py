"""Cancellation of a request: the transport announces it, the batcher reacts to it."""

from collections.abc import Callable


class Cancellation:
    """Records whether the caller of one request has gone, and notifies one listener.

    The transport creates one per request and calls `cancel` when the RPC ends early, for example
    through `context.add_callback(cancellation.cancel)`. Cancelling twice, or after the answer, has
    no effect.

    Attributes:
        cancelled: Whether the caller has gone.
        listener: Called by `cancel`, in its thread. Set it, then read `cancelled`: `cancel` writes
            the flag and then reads the listener, so at least one of the two sees the other's write.
    """

    cancelled = False
    listener: Callable[[], None] | None = None

    def cancel(self) -> None:
        """Mark the caller as gone, and notify the listener."""
        self.cancelled = True
        listener = self.listener
        if listener is not None:
            listener()
