"""The client without its calls: each operation as a generator that yields what has to be called.

The two clients differ only in how they make a call and how they wait, so everything else is here,
once. An operation yields a `Call` and is sent the answer, or yields a `Pause`; its return value is
the operation's result.
"""

import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from convd.client.comparison import Comparison, read_comparison
from convd.client.errors import (
    ClientError,
    InvalidImageError,
    InvalidRequestError,
    NotFoundError,
    UnavailableError,
    error_of_status,
)
from convd.client.images import ImageLike, read_image
from convd.client.results import (
    Classification,
    ClassProbability,
    ModelDescription,
    ModelVersion,
)
from convd.protos.convd.v1 import classification_pb2 as pb

MAX_IMAGES_PER_CALL = 64
_ROOM_FOR_OVERHEAD = 0.9
_PAUSE_SECONDS = 0.2

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Call:
    """A call to make.

    Attributes:
        method: Name of the method of `ClassificationService`.
        request: Its request.
        timeout_seconds: How long to wait for the answer.
    """

    method: Literal["Classify", "ListModels", "GetModel", "ListComparisons"]
    request: Any
    timeout_seconds: float


@dataclass(frozen=True, slots=True)
class Pause:
    """A pause to make.

    Attributes:
        seconds: How long.
    """

    seconds: float


Operation = Generator[Call | Pause, Any, _Result]


def model_spec(model: str, version: int | None, version_label: str | None) -> pb.ModelSpec:
    """Name a version.

    Raises:
        ValueError: Both a version and a label are given, or a version that cannot be.
    """
    if version is not None and version < 1:
        raise ValueError(f"version is {version}: versions start at 1")
    if version is not None and version_label is not None:
        raise ValueError("version and version_label exclude each other: give one of them")
    spec = pb.ModelSpec(name=model)
    if version is not None:
        spec.version = version
    if version_label is not None:
        spec.version_label = version_label
    return spec


def classify_all(
    images: Sequence[ImageLike],
    spec: pb.ModelSpec,
    top_k: int,
    timeout_seconds: float,
    max_message_bytes: int,
) -> Operation[list[Classification]]:
    """Classify images in as few calls as messages allow; the results come in their order.

    Raises:
        InvalidImageError: At least one cannot be used; the error has the results of all.
        ValueError: `top_k` is negative.
    """
    check_top_k(top_k)
    results: list[Classification | InvalidImageError] = []
    waiting: list[pb.Image] = []
    waiting_bytes = 0
    unreadable: dict[int, InvalidImageError] = {}
    limit = _ROOM_FOR_OVERHEAD * max_message_bytes
    for index, image in enumerate(images):
        try:
            message = read_image(image)
        except InvalidImageError as error:
            unreadable[index] = error
            continue
        size = message.ByteSize()
        if waiting and (len(waiting) == MAX_IMAGES_PER_CALL or waiting_bytes + size > limit):
            results += yield from _classify(waiting, spec, top_k, timeout_seconds)
            waiting, waiting_bytes = [], 0
        waiting.append(message)
        waiting_bytes += size
    if waiting:
        results += yield from _classify(waiting, spec, top_k, timeout_seconds)
    for index in sorted(unreadable):
        results.insert(index, unreadable[index])
    return _all_usable(results)


def stream_request(image: ImageLike, spec: pb.ModelSpec, top_k: int) -> pb.ClassifyStreamRequest:
    """The message of one image on a stream; an image that cannot be read has no source."""
    request = pb.ClassifyStreamRequest(request=pb.ClassifyRequest(model=spec, top_k=top_k))
    try:
        request.request.images.append(read_image(image))
    except InvalidImageError as error:
        request.id = error.message
        request.request.images.add()
    return request


def read_stream_answer(answer: pb.ClassifyStreamResponse) -> Classification | ClientError:
    """The classes of one image of a stream, or why there are none."""
    if answer.WhichOneof("outcome") == "response":
        return read_result(answer.response.results[0], answer.response)
    if answer.id:
        return InvalidImageError(answer.id)
    return error_of_status(answer.error.code, answer.error.message)


def check_top_k(top_k: int) -> None:
    """Refuse what the server would refuse for every image.

    Raises:
        ValueError: It is negative.
    """
    if top_k < 0:
        raise ValueError(f"top_k is {top_k}: give the number of classes, or 0 for all")


def list_models(timeout_seconds: float) -> Operation[list[ModelVersion]]:
    """Ask for every version of every model."""
    answer = yield Call("ListModels", pb.ListModelsRequest(), timeout_seconds)
    return [_model_version(one) for one in answer.models]


def list_comparisons(model: str, timeout_seconds: float) -> Operation[list[Comparison]]:
    """Ask how candidates differ from the versions that answer."""
    request = pb.ListComparisonsRequest(model_name=model)
    answer = yield Call("ListComparisons", request, timeout_seconds)
    return [read_comparison(one) for one in answer.comparisons]


def describe_model(spec: pb.ModelSpec, timeout_seconds: float) -> Operation[ModelDescription]:
    """Ask for one version in full."""
    answer = yield Call("GetModel", pb.GetModelRequest(model=spec), timeout_seconds)
    return ModelDescription(
        model=_model_version(answer.model),
        labels=tuple(answer.labels),
        input_shape=tuple(answer.input_shape),
        manifest_json=answer.manifest_json,
    )


def await_model(spec: pb.ModelSpec, timeout_seconds: float) -> Operation[ModelDescription]:
    """Ask for a version again and again, until it is available."""
    until = time.monotonic() + timeout_seconds
    while True:
        problem: Exception | None = None
        left = max(until - time.monotonic(), _PAUSE_SECONDS)
        try:
            description = yield from describe_model(spec, left)
        except (UnavailableError, NotFoundError) as error:
            problem = error
        else:
            model = description.model
            if model.state == "available":
                return description
            problem = UnavailableError(
                f"version {model.version} of model {model.name!r} is {model.state}"
                + (f": {model.reason}" if model.reason else "")
            )
            if model.state == "failed":
                raise problem
        if time.monotonic() + _PAUSE_SECONDS > until:
            raise problem
        yield Pause(_PAUSE_SECONDS)


def read_result(
    result: pb.ImageResult, response: pb.ClassifyResponse
) -> Classification | InvalidImageError:
    """The classes of one image, or why there are none."""
    if result.WhichOneof("outcome") == "error":
        return InvalidImageError(result.error.message)
    return Classification(
        model=response.model_name,
        version=response.model_version,
        task="multilabel" if response.task == pb.TASK_MULTILABEL else "multiclass",
        classes=tuple(
            ClassProbability(one.index, one.label, one.probability)
            for one in result.classification.classes
        ),
    )


def _all_usable(results: list[Classification | InvalidImageError]) -> list[Classification]:
    usable = [result for result in results if isinstance(result, Classification)]
    if len(usable) == len(results):
        return usable
    for index, result in enumerate(results):
        if isinstance(result, InvalidImageError):
            result.index = index
    first = next(result for result in results if isinstance(result, InvalidImageError))
    if len(results) == 1:
        raise first
    bad = len(results) - len(usable)
    raise InvalidImageError(
        f"{bad} of {len(results)} images cannot be used; the first is number {first.index}, "
        f"counted from 0: {first.message}",
        index=first.index,
        results=results,
    )


def _classify(
    images: list[pb.Image], spec: pb.ModelSpec, top_k: int, timeout_seconds: float
) -> Operation[list[Classification | InvalidImageError]]:
    request = pb.ClassifyRequest(model=spec, images=images, top_k=top_k)
    try:
        response = yield Call("Classify", request, timeout_seconds)
    except InvalidRequestError as error:
        if len(images) == 1:
            return [InvalidImageError(error.message)]
        # None of them can be used, or they are more than this server takes at a time.
        half = len(images) // 2
        first = yield from _classify(images[:half], spec, top_k, timeout_seconds)
        second = yield from _classify(images[half:], spec, top_k, timeout_seconds)
        return first + second
    return [read_result(result, response) for result in response.results]


def _model_version(message: pb.ModelVersion) -> ModelVersion:
    return ModelVersion(
        name=message.name,
        version=message.version,
        state=pb.ModelVersion.State.Name(message.state).removeprefix("STATE_").lower(),  # type: ignore[arg-type]
        reason=message.reason,
        provider=message.provider,
        precision=message.precision,
        classes=message.classes,
        accuracy=message.accuracy if message.HasField("accuracy") else None,
        mean_average_precision=message.mean_average_precision
        if message.HasField("mean_average_precision")
        else None,
        golden_difference=message.golden_difference
        if message.HasField("golden_difference")
        else None,
        version_labels=tuple(message.version_labels),
        task=None
        if message.task == pb.TASK_UNSPECIFIED
        else pb.Task.Name(message.task).removeprefix("TASK_").lower(),  # type: ignore[arg-type]
    )
