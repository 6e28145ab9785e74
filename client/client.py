"""The client for threads."""

import time
from collections.abc import Iterable, Iterator, Sequence
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


class Client:
    """Asks a server; safe for threads.

    Calls that the server refuses with UNAVAILABLE before it begins them are tried up to four times.

    Args:
        server: The server's address, HOST:PORT; or a `Connection`, which has everything that
            follows but the timeout.
        tls: Encrypts the connection; None for plain text.
        token: A bearer token, sent with every call.
        timeout_seconds: How long a call may take, retries included.

    Example:
        >>> with convd.Client(server) as client:
        ...     answer = client.classify("digit.png", model="digits")
        >>> answer.label
        '3'
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
        self._channel = self.connection.open()
        self._stub = ClassificationServiceStub(self._channel)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; calls in progress are cancelled."""
        self._channel.close()

    @overload
    def classify(  # type: ignore[overload-overlap]
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
    def classify(
        self,
        images: Sequence[ImageLike],
        model: str,
        *,
        top_k: int = ...,
        version: int | None = ...,
        version_label: str | None = ...,
        timeout_seconds: float | None = ...,
    ) -> list[Classification]: ...

    def classify(
        self,
        images: ImageLike | Sequence[ImageLike],
        model: str,
        *,
        top_k: int = 5,
        version: int | None = None,
        version_label: str | None = None,
        timeout_seconds: float | None = None,
    ) -> Classification | list[Classification]:
        """Classify an image, or several.

        Args:
            images: A path, the bytes of a file (JPEG, PNG, WebP, BMP), a uint8 array `[height,
                width]` or `[height, width, 1 or 3]`, or a Pillow image; or a list of these, which
                are sent in as few calls as possible.
            model: Name of the model.
            top_k: How many classes to return, most probable first; 0 for all.
            version: Version of the model; None for the newest.
            version_label: Label of the version, such as `stable`, in place of its number.
            timeout_seconds: How long each call may take; None for the client's own.

        Returns:
            A `Classification`; for a list, one for each image in its order.

        Raises:
            InvalidImageError: An image cannot be used; of several, the error has the results of
                the others.
            ClientError: The call failed; `convd.client.errors` has the tree.
            TypeError: An image is nothing that can be sent.
            ValueError: The version or `top_k` cannot be.
        """
        several = several_images(images)
        results = self._run(
            classify_all(
                [images] if several is None else several,  # type: ignore[list-item]
                model_spec(model, version, version_label),
                top_k,
                timeout_seconds or self._timeout_seconds,
                self.connection.max_message_bytes,
            )
        )
        return results[0] if several is None else results

    def classify_stream(
        self,
        images: Iterable[ImageLike],
        model: str,
        *,
        top_k: int = 5,
        version: int | None = None,
        version_label: str | None = None,
    ) -> Iterator[Classification | ClientError]:
        """Classify image after image over one stream, without waiting for each answer.

        Args:
            images: The images; each is read when the stream has room for it, by another thread.
            model: Name of the model.
            top_k: How many classes to return, most probable first; 0 for all.
            version: Version of the model; None for the newest.
            version_label: Label of the version, such as `stable`, in place of its number.

        Yields:
            The classes of each image, in their order, or the error of this image alone.

        Raises:
            ClientError: The stream failed.
        """
        check_top_k(top_k)
        spec = model_spec(model, version, version_label)
        answers = self._stub.ClassifyStream(stream_request(image, spec, top_k) for image in images)
        try:
            for answer in answers:
                yield read_stream_answer(answer)
        except grpc.RpcError as error:
            raise error_of_call(error, self.connection.server) from error
        finally:
            answers.cancel()  # type: ignore[no-untyped-call]

    def explain(
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
        """Say where in an image the evidence for a class lies.

        Args:
            image: As for `classify`.
            model: Name of the model.
            label: The class; None for the most probable one.
            method: How the evidence is found.
            version: Version of the model; None for the newest.
            version_label: Label of the version, such as `stable`, in place of its number.
            timeout_seconds: How long it may take; None for the client's own.
            on_progress: Called with how many runs of the network are done, of how many.

        Raises:
            InvalidImageError: The image cannot be read.
            ClientError: The call failed.
        """
        request = explain_request(image, model_spec(model, version, version_label), label, method)
        parts = self._stub.Explain(request, timeout=timeout_seconds or self._timeout_seconds)
        try:
            for part in parts:
                if part.HasField("explanation"):
                    return read_explanation(part.explanation)
                on_progress(part.progress.done, part.progress.total)
        except grpc.RpcError as error:
            raise error_of_call(error, self.connection.server) from error
        finally:
            parts.cancel()  # type: ignore[no-untyped-call]
        raise AssertionError("the server ended the call without an explanation")

    def models(self) -> list[ModelVersion]:
        """Every version of every model, sorted by name and version.

        Raises:
            ClientError: The call failed.
        """
        return self._run(list_models(self._timeout_seconds))

    def comparisons(self, model: str = "") -> list[Comparison]:
        """How candidates differ from the versions that answer, for one model or for every one.

        Raises:
            ClientError: The call failed.
        """
        return self._run(list_comparisons(model, self._timeout_seconds))

    def model(
        self, name: str, *, version: int | None = None, version_label: str | None = None
    ) -> ModelDescription:
        """Describe one version; the newest if neither a version nor a label is given.

        Raises:
            ClientError: The call failed.
        """
        spec = model_spec(name, version, version_label)
        return self._run(describe_model(spec, self._timeout_seconds))

    def wait_for_model(
        self,
        name: str,
        *,
        version: int | None = None,
        version_label: str | None = None,
        timeout_seconds: float = 60.0,
    ) -> ModelDescription:
        """Wait until a version is available, and describe it.

        Raises:
            UnavailableError: The version failed, or was not available in time.
            NotFoundError: There was no such model in time.
            ClientError: The call failed.
        """
        spec = model_spec(name, version, version_label)
        return self._run(await_model(spec, timeout_seconds))

    def _run(self, operation: Operation[_Result]) -> _Result:
        try:
            step = next(operation)
            while True:
                if isinstance(step, Pause):
                    time.sleep(step.seconds)
                    step = operation.send(None)
                    continue
                try:
                    method = getattr(self._stub, step.method)
                    answer = method(step.request, timeout=step.timeout_seconds)
                except grpc.RpcError as error:
                    failure = error_of_call(error, self.connection.server)
                    failure.__cause__ = error
                    step = operation.throw(failure)
                else:
                    step = operation.send(answer)
        except StopIteration as finished:
            return finished.value  # type: ignore[no-any-return]
