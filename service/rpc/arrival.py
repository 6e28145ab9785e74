"""Access control of calls as they arrive: before a thread is taken and a message is read.

gRPC asks interceptors in the one thread that receives all calls. What they set in the context of a
call, the thread that works on the call finds there.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, cast

import grpc
from grpc._cython import cygrpc  # type: ignore[attr-defined]

from convd.service.access.certificates import read_certificate
from convd.service.access.control import AccessControl
from convd.service.access.principal import ANONYMOUS, arrived_principal
from convd.service.access.table import METHODS, Row
from convd.service.calls.status import STATUSES
from convd.service.errors import QueueFullError, ServiceError
from convd.service.rpc.call_threads import CallThreads, Task
from convd.service.rpc.refusal import retry_hint
from convd.service.rpc.streams import StreamBounds
from convd.service.rpc.unreadable import only_message

if TYPE_CHECKING:
    # Generic in its stubs only.
    _MethodHandler = grpc.RpcMethodHandler[Any, Any]

_MAX_ANONYMOUS_CALLS = 4

_refused: ContextVar[ServiceError | None] = ContextVar("refused", default=None)


class ArrivalInterceptor(grpc.ServerInterceptor):  # type: ignore[type-arg]
    """Refuses calls that their callers may not make; comes before all other interceptors.

    A refused call is answered at once by the thread that receives calls. A caller without
    credentials reaches only the methods that are open to all callers, in a few threads that are for
    such callers, of which it holds none for long.

    Args:
        access: Decides.
        threads: The threads of unary calls.
        message_seconds: How long a caller without credentials may take to send its message.
    """

    def __init__(
        self, access: AccessControl, threads: CallThreads, *, message_seconds: float
    ) -> None:
        self._access = access
        self._threads = threads
        self._anonymous = StreamBounds(
            "anonymous",
            _MAX_ANONYMOUS_CALLS,
            idle_seconds=message_seconds,
            safe_seconds=0.0,
            advice="by callers without credentials: try again",
        )
        self._refusing = _on(_AtOnce(), grpc.stream_unary_rpc_method_handler, _refuse)
        self._variants: dict[tuple[_MethodHandler, bool], _MethodHandler] = {}

    def intercept_service(
        self,
        continuation: "Callable[[grpc.HandlerCallDetails], _MethodHandler | None]",
        handler_call_details: grpc.HandlerCallDetails,
    ) -> "_MethodHandler | None":
        """Decide on a call."""
        method = handler_call_details.method
        row = METHODS.get(method)
        if row is None:
            # No such method can have been registered.
            return continuation(handler_call_details)
        authorization = None
        for key, value in handler_call_details.invocation_metadata:
            if key == "authorization":
                authorization = str(value)
        by_certificate = authorization is None and self._access.knows_certificates
        if not by_certificate:
            try:
                principal = self._access.admit(method, row, authorization)
            except ServiceError as error:
                _refused.set(_without_frames(error))
                return self._refusing
            arrived_principal.set(principal)
            if principal is not ANONYMOUS:
                return continuation(handler_call_details)
        handler = continuation(handler_call_details)
        if handler is None:
            return None
        variant = self._variants.get((handler, by_certificate))
        if variant is None:
            variant = self._step_by_step(handler, method, row, by_certificate=by_certificate)
            self._variants[handler, by_certificate] = variant
        return variant

    def _step_by_step(
        self, handler: "_MethodHandler", method: str, row: Row, *, by_certificate: bool
    ) -> "_MethodHandler":
        """The handler of a method that reads no message before it has looked at the caller."""
        work: Callable[..., Any]
        if handler.response_streaming:
            assert handler.stream_stream is not None, "the interceptor makes all of them so"  # noqa: S101
            make, work = grpc.stream_stream_rpc_method_handler, handler.stream_stream
            behavior = _stream(work)
        else:
            make = grpc.stream_unary_rpc_method_handler
            work = cast("Callable[..., Any]", handler.unary_unary or handler.stream_unary)
            behavior = _unary(work, self._anonymous, reads=handler.unary_unary is not None)
        pool: Executor = self._anonymous.threads
        if by_certificate:
            usual = getattr(work, "experimental_thread_pool", self._threads)
            pool = _Door(self._access, method, row, usual, self._anonymous.threads)
        return _on(pool, make, behavior, handler.request_deserializer, handler.response_serializer)


class _AtOnce(ThreadPoolExecutor):
    """Runs a task in the calling thread. gRPC takes no pools but of this class."""

    def __init__(self) -> None:
        super().__init__(1)

    def submit(self, work: Callable[..., object], /, *arguments: object) -> Any:  # type: ignore[override]  # noqa: ANN401
        task = Task(work, arguments)
        task.run()
        return task


class _Door(_AtOnce):
    """Looks at a caller's certificate, which gRPC does not show to interceptors."""

    def __init__(
        self,
        access: AccessControl,
        method: str,
        row: Row,
        usual: CallThreads | ThreadPoolExecutor,
        anonymous: ThreadPoolExecutor,
    ) -> None:
        super().__init__()
        self._access = access
        self._method = method
        self._row = row
        self._usual = usual
        self._anonymous = anonymous

    def submit(self, work: Callable[..., object], /, *arguments: object) -> Any:  # type: ignore[override]  # noqa: ANN401
        # `work` is the `run` of the call's context.
        event = next(one for one in arguments if isinstance(one, cygrpc.RequestCallEvent))
        shown = cygrpc.auth_context(event.call).get(b"x509_pem_cert")
        try:
            certificate = read_certificate(shown[0]) if shown else None
            principal = self._access.admit(self._method, self._row, None, certificate)
        except ServiceError as error:
            work(_refused.set, _without_frames(error))
            return super().submit(work, *arguments)
        work(arrived_principal.set, principal)
        threads = self._anonymous if principal is ANONYMOUS else self._usual
        return threads.submit(work, *arguments)


def _without_frames(error: ServiceError) -> ServiceError:
    """Cut the cycle from an error by its frames to the call's context, which has the error.

    Else each refused call would be left to the garbage collector, a third of what it costs.
    """
    return error.with_traceback(None)


def _on(
    pool: Executor,
    make: Callable[..., "_MethodHandler"],
    behavior: Callable[..., Any],
    *serializers: Any,  # noqa: ANN401
) -> "_MethodHandler":
    """The handler that runs in a pool; gRPC finds the pool at the function."""
    behavior.experimental_thread_pool = pool  # type: ignore[attr-defined]
    return make(behavior, *serializers)


def _refuse(_messages: Iterator[Any], context: grpc.ServicerContext) -> None:
    """End a call that was refused; go on with another."""
    error = _refused.get()
    if error is not None:
        context.set_trailing_metadata(retry_hint(error))
        context.abort(STATUSES[type(error)][0], str(error))


def _unary(
    work: Callable[..., Any], anonymous: StreamBounds, *, reads: bool
) -> Callable[[Iterator[Any], grpc.ServicerContext], Any]:
    def answer(messages: Iterator[Any], context: grpc.ServicerContext) -> Any:  # noqa: ANN401
        _refuse(messages, context)
        if not reads:
            return work(messages, context)
        if arrived_principal.get() is not ANONYMOUS:
            return work(only_message(messages, context), context)
        try:
            with anonymous.place():
                message = only_message(anonymous.messages(messages, context), context)
        except QueueFullError as error:
            context.abort(STATUSES[type(error)][0], str(error))
        return work(message, context)

    return answer


def _stream(work: Callable[..., Any]) -> Callable[..., Any]:
    def answer(messages: Iterator[Any], context: grpc.ServicerContext, *send: Any) -> Any:  # noqa: ANN401
        _refuse(messages, context)
        return work(messages, context, *send)

    answer.experimental_non_blocking = getattr(work, "experimental_non_blocking", False)  # type: ignore[attr-defined]
    return answer
