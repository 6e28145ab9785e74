"""Calls that Ray Serve carries, answered by the servicers that also answer on convd's own ports.

Ray calls a method in an event loop. The servicers are written for threads, so that pictures are
prepared in parallel and the rows of many calls run in one batch. Ray does not pass on the deadline
of a call; it cancels the call once the deadline has passed or the caller has gone, and the rows of
a cancelled call are not run.
"""

import asyncio
import concurrent.futures
import contextlib
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Protocol, cast

import grpc
from google.protobuf.message import Message

from convd.service.access.table import row_of_method
from convd.service.calls.call import Call
from convd.service.calls.status import error_status
from convd.service.errors import CallerGoneError, QueueFullError
from convd.service.quoting import quote
from convd.service.rpc.interceptor import REQUEST_ID_KEY
from convd.service.rpc.refusal import retry_hint
from convd.service.server_core import ServerCore
from convd.service.settings import ServerSettings

_NO_CONTEXT = cast(grpc.ServicerContext, None)
_END = object()

_Unary = Callable[[Any, grpc.ServicerContext], Message]
_Streaming = Callable[[Any, grpc.ServicerContext], Iterator[Message]]


class Context(Protocol):
    """What a call needs of Ray's `RayServegRPCContext`."""

    def invocation_metadata(self) -> list[tuple[str, str]]:
        """The metadata that the client sent."""

    def set_code(self, code: grpc.StatusCode) -> None:
        """Set the status code."""

    def set_details(self, details: str) -> None:
        """Set the text of the status."""

    def set_trailing_metadata(self, trailing_metadata: list[tuple[str, str]]) -> None:
        """Set the metadata that follows the answer."""


class StreamRefusedError(Exception):
    """A stream ended with the status that its context has."""


class Calls:
    """Answers the calls of one process.

    Args:
        core: The models and their servicers.
        settings: How many calls may be in progress, and how long a stream may be idle.
    """

    def __init__(self, core: ServerCore, settings: ServerSettings) -> None:
        self._recorder = core.recorder
        self._access = core.access
        self._idle_seconds = settings.stream_idle_seconds
        self._streams = threading.Semaphore(settings.max_streams)
        self._threads = ThreadPoolExecutor(settings.unary_threads, "unary")
        # One thread more than there may be streams refuses the others.
        self._stream_threads = ThreadPoolExecutor(settings.max_streams + 1, "stream")

    async def answer(
        self, method: str, work: _Unary, request: Message, context: Context
    ) -> Message | None:
        """Answer one message with one message; None if it is refused, and the context says why."""
        call = Call(method=method)

        def run() -> Message | None:
            # None after an error, which `_recorded` has turned into the context's status.
            with self._recorded(call, context), self._admitted(call, context):
                self._check(call, request)
                return work(request, _NO_CONTEXT)

        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, run)
        except asyncio.CancelledError:
            call.cancel()
            raise

    async def stream(
        self,
        method: str,
        work: _Streaming,
        request: Message | AsyncIterator[Message],
        context: Context,
    ) -> AsyncIterator[Message]:
        """Answer one message, or a stream of them, with a stream of messages.

        Raises:
            StreamRefusedError: It ended with another status than OK, which the context has.
        """
        call = Call(method=method)
        crossing = _Crossing(asyncio.get_running_loop(), self._idle_seconds)
        answers: asyncio.Queue[Any] = asyncio.Queue(1)

        def run() -> None:
            with self._recorded(call, context), self._admitted(call, context), self._place():
                for answer in work(self._checked(call, request, crossing), _NO_CONTEXT):
                    crossing.wait(partial(answers.put, answer))
            with contextlib.suppress(CallerGoneError):
                crossing.wait(partial(answers.put, _END))

        self._stream_threads.submit(run)
        try:
            while (answer := await answers.get()) is not _END:
                yield answer
        finally:
            call.cancel()
            crossing.close()
        if call.code != "OK":
            raise StreamRefusedError(call.refusal)

    @contextlib.contextmanager
    def _recorded(self, call: Call, context: Context) -> Iterator[None]:
        """Record a call from its begin to its end; an error becomes the status of the context."""
        metadata = dict(context.invocation_metadata())
        request_id = metadata.get(REQUEST_ID_KEY, "")
        if request_id and request_id.isascii():
            call.request_id = quote(request_id)
            context.set_trailing_metadata([(REQUEST_ID_KEY, call.request_id)])
        self._recorder.begin(call, metadata)
        try:
            call.check_wanted()
            yield
        # The table of statuses covers every error.
        except Exception as error:
            status = error_status(error, call)
            call.code = status.code.name
            context.set_code(status.code)
            context.set_details(status.message)
            context.set_trailing_metadata([(REQUEST_ID_KEY, call.request_id), *retry_hint(error)])
        finally:
            self._recorder.end(call)

    @contextlib.contextmanager
    def _admitted(self, call: Call, context: Context) -> Iterator[None]:
        """Find out whose call it is, and count it among the principal's calls."""
        if self._access is None:
            yield
            return
        row = row_of_method(call.method)
        authorization = dict(context.invocation_metadata()).get("authorization")
        call.principal = self._access.admit(call.method, row, authorization)
        call.principal.enter()
        try:
            yield
        finally:
            call.principal.leave()

    def _check(self, call: Call, message: Message) -> None:
        """Refuse a message that is not for the principal of the call to send."""
        if self._access is not None and call.principal is not None:
            call.principal.check_size(message.ByteSize())
            self._access.check(call.method, row_of_method(call.method), call.principal, message)

    def _checked(
        self, call: Call, request: Message | AsyncIterator[Message], crossing: "_Crossing"
    ) -> Any:  # noqa: ANN401
        """What the servicer takes: the one message, or an iterator over those of the stream."""
        if isinstance(request, Message):
            self._check(call, request)
            return request
        return self._checked_messages(call, request, crossing)

    def _checked_messages(
        self, call: Call, messages: AsyncIterator[Message], crossing: "_Crossing"
    ) -> Iterator[Message]:
        is_first = True
        while (message := crossing.wait(partial(anext, messages, _END))) is not _END:
            # The first message was counted when the call was admitted.
            if call.principal is not None and not is_first:
                call.principal.spend_request()
            is_first = False
            self._check(call, message)
            yield message

    @contextlib.contextmanager
    def _place(self) -> Iterator[None]:
        if not self._streams.acquire(blocking=False):
            raise QueueFullError(
                "too many streams are open (max_streams): share one, or send unary calls"
            )
        try:
            yield
        finally:
            self._streams.release()


class _Crossing:
    """Lets the thread of a stream wait for what happens in the event loop.

    Args:
        loop: The event loop.
        timeout_seconds: How long the thread waits at most.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, timeout_seconds: float) -> None:
        self._loop = loop
        self._timeout_seconds = timeout_seconds
        self._waiting: concurrent.futures.Future[Any] | None = None
        self._closed = False

    def wait(self, begin: Callable[[], Awaitable[Any]]) -> Any:  # noqa: ANN401
        """Begin to wait for an event in the loop, and return what it gives.

        Raises:
            CallerGoneError: The crossing is closed, or the stream was idle for too long.
        """

        async def wait() -> Any:  # noqa: ANN401
            return await begin()

        waiting = self._waiting = asyncio.run_coroutine_threadsafe(wait(), self._loop)
        # `close` sets the flag and then looks at the future: one of the two sees the other.
        if self._closed:
            waiting.cancel()
        try:
            return waiting.result(self._timeout_seconds)
        except TimeoutError:
            waiting.cancel()
            raise CallerGoneError(
                f"nothing was sent or received for {self._timeout_seconds:g} s"
            ) from None
        except concurrent.futures.CancelledError:
            raise CallerGoneError("the caller has gone") from None

    def close(self) -> None:
        """Wake the thread up; it need not wait any more."""
        self._closed = True
        if self._waiting is not None:
            self._waiting.cancel()
