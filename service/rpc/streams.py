"""Bounds of open streams: each holds a thread, and most do nothing most of the time."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from typing import TypeVar

import grpc

from convd.runtime.home_core import HOME
from convd.service.errors import CallerGoneError, QueueFullError
from convd.service.rpc.message_wait import MessageWait

_HAND_OVER_SECONDS = 1.0
_RESET_SECONDS = 1e-3

_Message = TypeVar("_Message")


class StreamBounds:
    """Open streams of one kind: how many there may be, and how long one may do nothing.

    When all places are taken, a new stream gets the place of the one that has been idle longest, so
    idle streams never keep others out.

    Args:
        name: Prefix of the names of their threads.
        max_streams: Maximum open streams.
        idle_seconds: How long a stream may wait for a message, or for its client to take one.
        safe_seconds: How long a stream may do nothing before it can lose its place to a new one.
        advice: What a refused client can do.
        computes: Whether they compute for long outside of the interpreter's lock.

    Attributes:
        threads: Where gRPC runs these streams.
    """

    def __init__(
        self,
        name: str,
        max_streams: int,
        *,
        idle_seconds: float,
        safe_seconds: float,
        advice: str,
        computes: bool = False,
    ) -> None:
        self._safe_seconds = safe_seconds
        self._refusal = f"{max_streams} streams are already open {advice}"
        self._free = threading.Semaphore(max_streams)
        # New streams come in one by one, or one would take the place that another has made.
        self._entry = threading.Lock()
        self._idle = MessageWait(idle_seconds, "streams were ended: nothing was sent or received")
        # One more thread, which refuses excess streams.
        self.threads = ThreadPoolExecutor(
            max_streams + 1,
            thread_name_prefix=name,
            initializer=HOME.roam if computes else HOME.stay,
        )

    @contextmanager
    def place(self) -> Iterator[None]:
        """Hold a place for a stream.

        Raises:
            QueueFullError: All places are taken by streams that are in use.
        """
        with self._entry:
            has_place = self._free.acquire(blocking=False) or (
                self._idle.end_longest(self._safe_seconds)
                and self._free.acquire(timeout=_HAND_OVER_SECONDS)
            )
        if not has_place:
            raise QueueFullError(self._refusal)
        try:
            yield
        finally:
            self._free.release()

    def waiting(self, context: grpc.ServicerContext) -> AbstractContextManager[None]:
        """What a stream is in while it waits for its client."""
        return self._idle.watch(context)

    def messages(
        self, messages: Iterator[_Message], context: grpc.ServicerContext
    ) -> Iterator[_Message]:
        """Iterate over the messages of a stream.

        Raises:
            CallerGoneError: The client has reset the stream, or it was idle for too long.
        """
        while True:
            try:
                with self.waiting(context):
                    message = next(messages, None)
            # What gRPC raises once a call is cancelled says nothing else.
            except grpc.RpcError:
                raise CallerGoneError("the caller has gone") from None
            if message is None:
                # gRPC may learn of a reset just after it has learnt that no message follows.
                time.sleep(_RESET_SECONDS)
                if not context.is_active():
                    raise CallerGoneError("the caller has gone")
                return
            yield message
