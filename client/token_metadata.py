"""Sends a bearer token with every call, over any channel.

gRPC's own call credentials work on encrypted channels only, and a server on loopback has no need of
encryption.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import grpc

_HEADER = "authorization"


class _CallDetails(NamedTuple):
    method: str
    timeout: float | None
    metadata: Any
    credentials: grpc.CallCredentials | None
    wait_for_ready: bool | None
    compression: grpc.Compression | None


class TokenInterceptor(
    grpc.UnaryUnaryClientInterceptor,  # type: ignore[type-arg]
    grpc.StreamStreamClientInterceptor,  # type: ignore[type-arg]
):
    """Adds the token to the metadata of calls.

    Args:
        token: The token.
    """

    def __init__(self, token: str) -> None:
        self._header = (_HEADER, f"Bearer {token}")

    def intercept_unary_unary(
        self,
        continuation: Callable[..., Any],
        client_call_details: grpc.ClientCallDetails,
        request: Any,  # noqa: ANN401
    ) -> Any:  # noqa: ANN401
        """Send one message for one answer."""
        return continuation(self._with_token(client_call_details), request)

    def intercept_stream_stream(
        self,
        continuation: Callable[..., Any],
        client_call_details: grpc.ClientCallDetails,
        request_iterator: Any,  # noqa: ANN401
    ) -> Any:  # noqa: ANN401
        """Send a stream of messages."""
        return continuation(self._with_token(client_call_details), request_iterator)

    def _with_token(self, details: grpc.ClientCallDetails) -> Any:  # noqa: ANN401
        return _CallDetails(
            details.method,
            details.timeout,
            (*(details.metadata or ()), self._header),
            details.credentials,
            details.wait_for_ready,
            details.compression,
        )


def async_token_interceptors(token: str) -> list[Any]:
    """The same for asyncio, which takes an interceptor for one kind of call only."""
    header = (_HEADER, f"Bearer {token}")
    return [_AsyncUnary(header), _AsyncStream(header)]


class _Async:
    def __init__(self, header: tuple[str, str]) -> None:
        self._header = header

    async def _with_token(
        self,
        continuation: Callable[..., Any],
        details: grpc.aio.ClientCallDetails,
        request: Any,  # noqa: ANN401
    ) -> Any:  # noqa: ANN401
        metadata = grpc.aio.Metadata(*(details.metadata or ()), self._header)
        changed = grpc.aio.ClientCallDetails(
            details.method, details.timeout, metadata, details.credentials, details.wait_for_ready
        )
        return await continuation(changed, request)


class _AsyncUnary(_Async, grpc.aio.UnaryUnaryClientInterceptor):  # type: ignore[type-arg]
    async def intercept_unary_unary(
        self,
        continuation: Callable[..., Any],
        client_call_details: grpc.aio.ClientCallDetails,
        request: Any,  # noqa: ANN401
    ) -> Any:  # noqa: ANN401
        return await self._with_token(continuation, client_call_details, request)


class _AsyncStream(_Async, grpc.aio.StreamStreamClientInterceptor):  # type: ignore[type-arg]
    async def intercept_stream_stream(
        self,
        continuation: Callable[..., Any],
        client_call_details: grpc.aio.ClientCallDetails,
        request_iterator: Any,  # noqa: ANN401
    ) -> Any:  # noqa: ANN401
        return await self._with_token(continuation, client_call_details, request_iterator)
