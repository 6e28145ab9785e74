"""Cancellation of a request: the transport announces it, the batcher reacts to it."""

from collections.abc import Callable


class Cancellation:
    """Records whether the caller of one request has gone, and notifies one listener.

    The transport creates one per request and calls `cancel` when the RPC ends early, for example
    through `context.add_callback(cancellation.cancel)`. Cancelling twice, or after the answer, has
    no effect. All methods may be called from any thread.
    """

    __slots__ = ("_listener", "cancelled")

    def __init__(self) -> None:
        self.cancelled = False
        self._listener: Callable[[], None] | None = None

    def cancel(self) -> None:
        """Mark the caller as gone, and notify the listener."""
        self.cancelled = True
        listener = self._listener
        if listener is not None:
            listener()

    def listen(self, listener: Callable[[], None] | None) -> None:
        """Call `listener` on cancellation; None removes it.

        If the caller has already gone, the listener is called at once. It may be called twice.
        """
        # `cancel` writes the flag, then reads the listener; this method writes the listener, then
        # reads the flag. In any interleaving, at least one of them sees the other's write.
        self._listener = listener
        if listener is not None and self.cancelled:
            listener()
