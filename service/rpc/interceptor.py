"""One interceptor for every method: request ids, deadlines, statuses and records of calls."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NoReturn

import grpc

from convd.service.access.principal import arrived_principal
from convd.service.calls.call import Call
from convd.service.calls.gate import DRAINING, CallGate
from convd.service.calls.recorder import CallRecorder
from convd.service.calls.status import error_status
from convd.service.errors import (
    CallerGoneError,
    DeadlineExceededError,
    UnavailableError,
)
from convd.service.quoting import quote
from convd.service.rpc.message_wait import MessageWait
from convd.service.rpc.refusal import retry_hint
from convd.service.rpc.streams import StreamBounds
from convd.service.rpc.unreadable import (
    CANNOT_BE_PARSED,
    UNREADABLE,
    check_readable,
    only_message,
    readable,
    tolerant,
)
from convd.service.settings import ServerSettings

if TYPE_CHECKING:
    # Generic in its stubs only.
    _MethodHandler = grpc.RpcMethodHandler[Any, Any]

_HEALTH = "/grpc.health.v1.Health/"
_REFLECTION = "/grpc.reflection."
_EXPLAIN = "/convd.v1.ClassificationService/Explain"

# A client of reflection asks a few questions and leaves.
_MAX_REFLECTION_STREAMS = 4

# For a caller without a deadline gRPC documents None, but returns 9e18 seconds.
_FOREVER_SECONDS = 1e18

# Under load, about as many calls have just begun and wait for a message that is on its way.
_MANY_SILENT = 16

REQUEST_ID_KEY = "x-request-id"
RESPONSE_COMPRESSION_KEY = "x-response-compression"
"""Metadata that asks for a compressed response: a request's own compression is not visible."""


class CallInterceptor(grpc.ServerInterceptor):  # type: ignore[type-arg]
    """Wraps every method of every service, so that no method can be forgotten.

    Streams have their own threads: an open stream holds one all the time, and idle streams must
    never starve unary calls.

    Args:
        recorder: Records every call.
        gate: Tracks every call; once it is closed, new calls are refused.
        settings: Bounds of streams and of the wait for a message.
        silent_calls: Number of calls that hold a thread while their message has not arrived.
    """

    def __init__(
        self,
        recorder: CallRecorder,
        gate: CallGate,
        settings: ServerSettings,
        *,
        silent_calls: Callable[[], int] = lambda: 0,
    ) -> None:
        self._silent_calls = silent_calls
        message_seconds = settings.message_timeout_seconds
        self._message_wait = MessageWait(
            message_seconds, "calls were ended: their message did not arrive"
        )
        self._recorder = recorder
        self._gate = gate
        self._streams = StreamBounds(
            "stream",
            settings.max_streams,
            idle_seconds=settings.stream_idle_seconds,
            safe_seconds=min(message_seconds, settings.stream_idle_seconds),
            advice="(--max-streams): close or share one, or send unary calls",
        )
        self._reflection = StreamBounds(
            "reflection",
            _MAX_REFLECTION_STREAMS,
            idle_seconds=message_seconds,
            safe_seconds=0.0,
            advice="for reflection: try again later",
        )
        self._explanations = StreamBounds(
            "explain",
            settings.max_explanations,
            idle_seconds=message_seconds,
            safe_seconds=message_seconds,
            advice="(--max-explanations): try again later",
            computes=True,
        )
        self._wrapped: dict[tuple[str, bool, bool], _MethodHandler] = {}

    def intercept_service(
        self,
        continuation: "Callable[[grpc.HandlerCallDetails], _MethodHandler | None]",
        handler_call_details: grpc.HandlerCallDetails,
    ) -> "_MethodHandler | None":
        """Wrap the handler of one method.

        Called when a call arrives. A call that arrives while the gate is open is accepted, however
        long it then waits for a thread.
        """
        method = handler_call_details.method
        # Health checks are answered until the very end.
        accepted = not self._gate.closed or method.startswith(_HEALTH)
        # To watch every call would cost each a tenth of its time, so only many are.
        watched = self._silent_calls() > _MANY_SILENT
        wrapped = self._wrapped.get((method, accepted, watched))
        if wrapped is not None:
            return wrapped
        handler = continuation(handler_call_details)
        if handler is None:
            return None
        wrapped = self._wrap(handler, method, accepted=accepted)
        if watched and handler.unary_unary is not None:
            wrapped = self._watch(wrapped)
        self._wrapped[method, accepted, watched] = wrapped
        return wrapped

    def _wrap(self, handler: "_MethodHandler", method: str, *, accepted: bool) -> "_MethodHandler":
        if handler.unary_unary is not None:
            make = grpc.unary_unary_rpc_method_handler
            behavior = self._unary(handler.unary_unary, method, accepted=accepted)
        elif handler.stream_unary is not None:
            make = grpc.stream_unary_rpc_method_handler
            behavior = self._unary(handler.stream_unary, method, accepted=accepted)
        elif handler.stream_stream is not None:
            make = grpc.stream_stream_rpc_method_handler
            behavior = self._stream(handler.stream_stream, method, accepted=accepted)
        elif handler.unary_stream is not None:
            make = grpc.stream_stream_rpc_method_handler
            behavior = self._without_thread(handler.unary_stream)
        else:
            raise AssertionError(f"{method} has no behavior")
        return make(behavior, tolerant(handler.request_deserializer), handler.response_serializer)

    def _watch(self, handler: "_MethodHandler") -> "_MethodHandler":
        """Take the one message as a stream, which hands over the call before it arrives."""
        work = handler.unary_unary
        assert work is not None  # noqa: S101

        def answer(messages: Iterator[Any], context: grpc.ServicerContext) -> Any:  # noqa: ANN401
            return work(self._only_message(messages, context), context)

        return grpc.stream_unary_rpc_method_handler(
            answer, handler.request_deserializer, handler.response_serializer
        )

    def _without_thread(self, work: Callable[..., Any]) -> Callable[..., Any]:
        """A call that is answered by callback, as a health watch is, once its message is there.

        It is not counted: it would never leave the gate.
        """
        assert getattr(work, "experimental_non_blocking", False)  # noqa: S101

        def answer(
            messages: Iterator[Any], context: grpc.ServicerContext, send: Callable[[Any], None]
        ) -> None:
            message = self._only_message(messages, context)
            if message is UNREADABLE:
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, CANNOT_BE_PARSED)
            work(message, context, send)

        answer.experimental_non_blocking = True  # type: ignore[attr-defined]
        return answer

    def _only_message(self, messages: Iterator[Any], context: grpc.ServicerContext) -> Any:  # noqa: ANN401
        with self._message_wait.watch(context):
            return only_message(messages, context)

    def _unary(
        self, behavior: Callable[..., Any], method: str, *, accepted: bool
    ) -> Callable[..., Any]:
        # Looked up once: a small network's request notices each step.
        gate, in_progress = self._gate, self._gate.in_progress

        def answer(request: Any, context: grpc.ServicerContext) -> Any:  # noqa: ANN401
            call = self._begin(context, method, accepted=accepted)
            try:
                # A call that waited too long for a thread must not cost any work.
                late = call.deadline is not None and call.deadline <= call.started_at
                if late or not accepted or call.cancelled:
                    self._refuse_unwanted(call, accepted=accepted)
                if request is UNREADABLE:
                    check_readable(request)
                return behavior(request, context)
            except Exception as error:
                _refuse(error, call, context)
            finally:
                in_progress.discard(call)
                if gate.closed:
                    gate.leave(call)
                self._recorder.end(call)

        return answer

    def _stream(
        self, behavior: Callable[..., Any], method: str, *, accepted: bool
    ) -> Callable[..., Any]:
        bounds = self._streams
        if method.startswith(_REFLECTION):
            bounds = self._reflection
        elif method == _EXPLAIN:
            bounds = self._explanations

        def answer(messages: Any, context: grpc.ServicerContext) -> Iterator[Any]:  # noqa: ANN401
            call = self._begin(context, method, accepted=accepted)
            try:
                self._refuse_unwanted(call, accepted=accepted)
                with bounds.place():
                    arrived = readable(bounds.messages(messages, context))
                    for response in behavior(self._gate.requests(arrived, call), context):
                        with bounds.waiting(context):
                            yield response
            # gRPC drops the answers of a stream whose client has gone.
            except GeneratorExit:
                call.code = error_status(CallerGoneError("the caller has gone"), call).code.name
                raise
            except Exception as error:
                _refuse(error, call, context)
            finally:
                if accepted:
                    self._gate.leave(call)
                self._recorder.end(call)

        answer.experimental_thread_pool = bounds.threads  # type: ignore[attr-defined]
        return answer

    def _begin(self, context: grpc.ServicerContext, method: str, *, accepted: bool) -> Call:
        call = Call(method=method, principal=arrived_principal.get())
        if accepted:
            self._gate.in_progress.add(call)
        remaining_seconds = context.time_remaining()
        if remaining_seconds is not None and remaining_seconds < _FOREVER_SECONDS:
            call.deadline = call.started_at + remaining_seconds
        if not context.add_callback(call.cancel):
            call.cancel()
        metadata = dict(context.invocation_metadata())
        request_id = str(metadata.get(REQUEST_ID_KEY, ""))
        # Trailers are ASCII: what could not be sent back is replaced by an id of ours.
        if request_id and request_id.isascii():
            call.request_id = quote(request_id)
            context.set_trailing_metadata(((REQUEST_ID_KEY, call.request_id),))
        if metadata.get(RESPONSE_COMPRESSION_KEY) == "gzip":
            context.set_compression(grpc.Compression.Gzip)
        self._recorder.begin(call, metadata)
        return call

    def _refuse_unwanted(self, call: Call, *, accepted: bool) -> None:
        if not accepted:
            self._gate.refuse()
            raise UnavailableError(DRAINING)
        if call.deadline is not None and call.deadline <= call.started_at:
            raise DeadlineExceededError("the deadline passed while the call waited for a thread")
        if call.cancelled:
            raise CallerGoneError("the caller has gone")


def _refuse(error: Exception, call: Call, context: grpc.ServicerContext) -> NoReturn:
    """End a call with the status of an error; gRPC does so by raising an exception."""
    # A method that has aborted itself, as the health service does, has set its code.
    aborted = context.code()  # type: ignore[attr-defined]
    if isinstance(aborted, grpc.StatusCode) and aborted is not grpc.StatusCode.OK:
        call.code = aborted.name
        raise error
    status = error_status(error, call)
    call.code = status.code.name
    context.set_trailing_metadata(((REQUEST_ID_KEY, call.request_id), *retry_hint(error)))
    context.abort(status.code, status.message)
