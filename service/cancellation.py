"""A request's cancellation, as the transport tells it to whoever works on the request."""

from collections.abc import Callable


class Cancellation:
    """Says whether the caller of one request has gone, and tells the batcher at once.

    The transport creates one for each request and calls `cancel` when the RPC ends early, for
    example by `context.add_callback(cancellation.cancel)`. Cancelling twice, or after the answer,
    does nothing. All methods can be called from any thread.
    """

    __slots__ = ("_listener", "cancelled")

    def __init__(self) -> None:
        self.cancelled = False
        self._listener: Callable[[], None] | None = None

    def cancel(self) -> None:
        """Mark the caller as gone, and wake the one who works for it."""
        self.cancelled = True
        listener = self._listener
        if listener is not None:
            listener()

    def listen(self, listener: Callable[[], None] | None) -> None:
        """Have `listener` called on cancellation; None stops it.

        The listener is called at once where the caller has gone already, and may be called twice.
        """
        # `cancel` writes the flag and then reads the listener, this writes the listener and then
        # reads the flag: whichever order the two threads take, one of them sees the other's write.
        self._listener = listener
        if listener is not None and self.cancelled:
            listener()
