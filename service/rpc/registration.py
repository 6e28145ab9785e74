"""Registers the services: every method with its row of the table, checked on each message."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import grpc

from convd.service.access.control import AccessControl
from convd.service.access.principal import Principal, arrived_principal
from convd.service.access.table import Row, row_of_method
from convd.service.calls.call import current_call
from convd.service.calls.status import STATUSES
from convd.service.errors import InvalidRequestError, LimitExceededError
from convd.service.rpc.refusal import retry_hint
from convd.service.rpc.unreadable import NO_MESSAGE

if TYPE_CHECKING:
    # Generic in its stubs only.
    _MethodHandler = grpc.RpcMethodHandler[Any, Any]


class Registry:
    """Takes the place of the server while services are added to it, and adds their methods.

    Args:
        server: The server.
        access: Checks the messages of every method; None where anyone may do everything.
    """

    def __init__(self, server: grpc.Server, access: AccessControl | None) -> None:
        self._server = server
        self._access = access

    def add_registered_method_handlers(
        self, service: str, handlers: "Mapping[str, _MethodHandler]"
    ) -> None:
        """Add the methods of a service.

        Raises:
            UnlistedError: One of them has no row.
        """
        rows = {method: row_of_method(f"/{service}/{method}") for method in handlers}
        handlers = {method: _taking_a_stream(each) for method, each in handlers.items()}
        if self._access is not None:
            handlers = {
                method: _guarded(handler, f"/{service}/{method}", rows[method], self._access)
                for method, handler in handlers.items()
            }
        self._server.add_registered_method_handlers(service, dict(handlers))  # type: ignore[attr-defined]

    def add_generic_rpc_handlers(self, handlers: Iterable[object]) -> None:
        """Nothing: generated code adds the same methods by name too, and only those have rows."""


def _taking_a_stream(handler: "_MethodHandler") -> "_MethodHandler":
    """A method with one message and many answers takes a stream, and so has its threads and bounds.

    One that is answered by callback stays as it is.
    """
    work = handler.unary_stream
    if work is None or getattr(work, "experimental_non_blocking", False):
        return handler

    def answer(messages: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
        message = next(messages, None)
        if message is None:
            raise InvalidRequestError(NO_MESSAGE)
        yield from work(message, context)

    return grpc.stream_stream_rpc_method_handler(
        answer, handler.request_deserializer, handler.response_serializer
    )


def _guarded(
    handler: "_MethodHandler", method: str, row: Row, access: AccessControl
) -> "_MethodHandler":
    """The handler of a method that first checks each message."""
    scope, model = row.scope, row.model

    def check(principal: Principal, message: Any) -> None:  # noqa: ANN401
        # To know its size, protobuf writes the whole message again.
        if principal.limits.request_bytes is not None:
            principal.check_size(message.ByteSize())
        # The usual case without further steps: a small network's request notices each of them.
        if not (scope and model and principal.grants.allow(scope, model(message))):
            access.check(method, row, principal, message)

    if handler.unary_unary is not None:
        return grpc.unary_unary_rpc_method_handler(
            _unary(handler.unary_unary, check),
            handler.request_deserializer,
            handler.response_serializer,
        )
    if handler.stream_stream is not None:
        return grpc.stream_stream_rpc_method_handler(
            _stream(handler.stream_stream, check),
            handler.request_deserializer,
            handler.response_serializer,
        )
    # A health watch holds no thread, and its scope is that of the method.
    assert row.model is None  # noqa: S101
    assert row.free is None  # noqa: S101
    assert handler.unary_stream is not None  # noqa: S101
    return grpc.unary_stream_rpc_method_handler(
        _by_callback(handler.unary_stream),
        handler.request_deserializer,
        handler.response_serializer,
    )


def _unary(
    work: Callable[[Any, grpc.ServicerContext], Any], check: Callable[[Principal, Any], None]
) -> Callable[[Any, grpc.ServicerContext], Any]:
    def answer(request: Any, context: grpc.ServicerContext) -> Any:  # noqa: ANN401
        principal = current_call().principal
        assert principal is not None, "the interceptor admits every call"  # noqa: S101
        check(principal, request)
        if principal.limits.concurrent_calls is None:
            return work(request, context)
        principal.enter()
        try:
            return work(request, context)
        finally:
            principal.leave()

    return answer


def _stream(
    work: Callable[[Iterator[Any], grpc.ServicerContext], Iterator[Any]],
    check: Callable[[Principal, Any], None],
) -> Callable[[Iterator[Any], grpc.ServicerContext], Iterator[Any]]:
    def answer(messages: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
        principal = current_call().principal
        assert principal is not None, "the interceptor admits every call"  # noqa: S101

        def checked() -> Iterator[Any]:
            # The first message was counted when the call arrived.
            counted = True
            for message in messages:
                if not counted:
                    principal.spend_request()
                counted = False
                check(principal, message)
                yield message

        principal.enter()
        try:
            yield from work(checked(), context)
        finally:
            principal.leave()

    return answer


def _by_callback(work: Callable[..., Any]) -> Callable[..., Any]:
    def answer(
        request: Any,  # noqa: ANN401
        context: grpc.ServicerContext,
        send: Callable[[Any], None],
    ) -> None:
        principal = arrived_principal.get()
        assert principal is not None, "the interceptor admits every call"  # noqa: S101
        try:
            principal.enter()
        except LimitExceededError as error:
            context.set_trailing_metadata(retry_hint(error))
            context.abort(STATUSES[type(error)][0], str(error))
        # It lasts for longer than this function.
        if not context.add_callback(principal.leave):
            principal.leave()
        work(request, context, send)

    answer.experimental_non_blocking = True  # type: ignore[attr-defined]
    return answer
