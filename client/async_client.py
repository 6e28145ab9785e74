"""The client for asyncio; its methods are those of `Client`."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from types import TracebackType
from typing import Self, TypeVar, overload

import grpc

from convd.client.address import DEFAULT_SERVER
from convd.client.comparison import Comparison
from convd.client.connection import Connection, Tls
from convd.client.errors import ClientError, error_of_call
from convd.client.exchange import (
    Operation,
    Pause,
    await_model,
    check_top_k,
    classify_all,
    describe_model,
    list_comparisons,
    list_models,
    model_spec,
    read_stream_answer,
    stream_request,
)
from convd.client.explanation import (
    Explanation,
    Method,
    OnProgress,
    explain_request,
    ignore_progress,
    read_explanation,
)
from convd.client.images import ImageLike, several_images
from convd.client.results import Classification, ModelDescription, ModelVersion
from convd.protos.convd.v1.classification_pb2_grpc import ClassificationServiceStub

_Result = TypeVar("_Result")


class AsyncClient:
    """Asks a server from asyncio; make it and use it in one event loop.

    The arguments are those of `Client`, which documents what each method takes, gives and raises.
    """

    def __init__(
        self,
        server: str | Connection = DEFAULT_SERVER,
        *,
        tls: Tls | None = None,
        token: str | None = None,
        timeout_seconds: float = 30.0,
    ) -> None:
        if not isinstance(server, Connection):
            server = Connection(server, tls=tls, token=token)
        self.connection = server
        self._timeout_seconds = timeout_seconds
        self._channel = self.connection.open_async()
        self._stub = ClassificationServiceStub(self._channel)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection; calls in progress are cancelled."""
        await self._channel.close(None)

    @overload
    async def classify(  # type: ignore[overload-overlap]
        self,
        images: ImageLike,
        model: str,
        *,
        top_k: int = ...,
        version: int | None = ...,
        version_label: str | None = ...,
        timeout_seconds: float | None = ...,
    ) -> Classification: ...

    @overload
    async def classify(
        self,
        images: Sequence[ImageLike],
        model: str,
        *,
        top_k: int = ...,
        version: int | None = ...,
        version_label: str | None = ...,
        timeout_seconds: float | None = ...,
    ) -> list[Classification]: ...

    async def classify(
        self,
        images: ImageLike | Sequence[ImageLike],
        model: str,
        *,
        top_k: int = 5,
        version: int | None = None,
        version_label: str | None = None,
        timeout_seconds: float | None = None,
    ) -> Classification | list[Classification]:
        """Classify an image, or several; see `Client.classify`."""
        several = several_images(images)
        results = await self._run(
            classify_all(
                [images] if several is None else several,  # type: ignore[list-item]
                model_spec(model, version, version_label),
                top_k,
                timeout_seconds or self._timeout_seconds,
                self.connection.max_message_bytes,
            )
        )
        return results[0] if several is None else results

    async def classify_stream(
        self,
        images: Iterable[ImageLike],
        model: str,
        *,
        top_k: int = 5,
        version: int | None = None,
        version_label: str | None = None,
    ) -> AsyncIterator[Classification | ClientError]:
        """Classify image after image over one stream; see `Client.classify_stream`."""
        check_top_k(top_k)
        spec = model_spec(model, version, version_label)
        answers = self._stub.ClassifyStream(stream_request(image, spec, top_k) for image in images)
        try:
            async for answer in answers:
                yield read_stream_answer(answer)
        except grpc.RpcError as error:
            raise error_of_call(error, self.connection.server) from error
        finally:
            answers.cancel()

    async def explain(
        self,
        image: ImageLike,
        model: str,
        *,
        label: str | None = None,
        method: Method = "auto",
        version: int | None = None,
        version_label: str | None = None,
        timeout_seconds: float | None = None,
        on_progress: OnProgress = ignore_progress,
    ) -> Explanation:
        """Say where in an image the evidence for a class lies; see `Client.explain`."""
        request = explain_request(image, model_spec(model, version, version_label), label, method)
        parts = self._stub.Explain(request, timeout=timeout_seconds or self._timeout_seconds)
        try:
            async for part in parts:
                if part.HasField("explanation"):
                    return read_explanation(part.explanation)
                on_progress(part.progress.done, part.progress.total)
        except grpc.RpcError as error:
            raise error_of_call(error, self.connection.server) from error
        finally:
            parts.cancel()
        raise AssertionError("the server ended the call without an explanation")

    async def models(self) -> list[ModelVersion]:
        """Every version of every model; see `Client.models`."""
        return await self._run(list_models(self._timeout_seconds))

    async def comparisons(self, model: str = "") -> list[Comparison]:
        """How candidates differ from the versions that answer, for one model or for every one.

        Raises:
            ClientError: The call failed.
        """
        return await self._run(list_comparisons(model, self._timeout_seconds))

    async def model(
        self, name: str, *, version: int | None = None, version_label: str | None = None
    ) -> ModelDescription:
        """Describe one version; see `Client.model`."""
        spec = model_spec(name, version, version_label)
        return await self._run(describe_model(spec, self._timeout_seconds))

    async def wait_for_model(
        self,
        name: str,
        *,
        version: int | None = None,
        version_label: str | None = None,
        timeout_seconds: float = 60.0,
    ) -> ModelDescription:
        """Wait until a version is available; see `Client.wait_for_model`."""
        spec = model_spec(name, version, version_label)
        return await self._run(await_model(spec, timeout_seconds))

    async def _run(self, operation: Operation[_Result]) -> _Result:
        try:
            step = next(operation)
            while True:
                if isinstance(step, Pause):
                    await asyncio.sleep(step.seconds)
                    step = operation.send(None)
                    continue
                try:
                    method = getattr(self._stub, step.method)
                    answer = await method(step.request, timeout=step.timeout_seconds)
                except grpc.RpcError as error:
                    failure = error_of_call(error, self.connection.server)
                    failure.__cause__ = error
                    step = operation.throw(failure)
                else:
                    step = operation.send(answer)
        except StopIteration as finished:
            return finished.value  # type: ignore[no-any-return]
