"""The one use case under every protocol: images in, a response out."""

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from convd.artifact.graph_contract import NO_EXTRAS, Extras, OutputArrays, Outputs
from convd.service.batching.entry import Priority
from convd.service.calls.call import Call
from convd.service.errors import InvalidRequestError
from convd.service.inference.decode_budget import DecodeBudget
from convd.service.inference.explanation import Explainer
from convd.service.inference.preparation import ImageSource, prepare_images
from convd.service.lifecycle.catalog import Catalog, VersionChoice
from convd.service.metrics import RequestRecord
from convd.service.servables.servable import Servable
from convd.service.settings import ServerSettings, decode_budget

_Response = TypeVar("_Response")


class Classified(NamedTuple):
    """The network's answer to the images of one request.

    Attributes:
        servable: The servable that answered.
        images: The network's input, uint8 `[rows, height, width, channels]`; a row for each usable
            image, in order.
        outputs: float32 `[rows, ...]` each. An optional output may be there for others' sake.
        batch_sizes: Rows of each batch that the rows ran in.
        refusals: For each image that cannot be used, its index among all images and the reason.
    """

    servable: Servable
    images: NDArray[np.uint8]
    outputs: OutputArrays
    batch_sizes: tuple[int, ...]
    refusals: dict[int, str]


class Mirror(Protocol):
    """Sees every request that is answered; none of its methods may take long or raise an error."""

    def began(self) -> None:
        """A request has found its servable."""

    def answered(
        self, call: Call, sources: Sequence[ImageSource] | NDArray[np.uint8], answer: Classified
    ) -> None:
        """A request is answered."""

    def ended(self) -> None:
        """A request that began has ended, answered or not."""


class InferenceService:
    """Prepares images and runs them on servables; independent of any transport.

    Args:
        catalog: The servables.
        max_image_pixels: Largest picture that is decoded, height x width.
        max_images_per_request: Maximum number of images in one request.
        decode_budget_bytes: Memory for all pictures that are decoded and prepared at one time.
        max_answer_bytes: Largest answer; a request whose answer would be larger is refused at once.

    Attributes:
        catalog: The servables.
        max_image_pixels: Largest picture that is decoded, height x width.
        decode_budget: The memory of all pictures that are being decoded.
        explain: Explains an answer, as `Explainer.explain`.
        mirror: Sees every request; None while nothing wants to.
    """

    def __init__(
        self,
        catalog: Catalog,
        *,
        max_image_pixels: int,
        max_images_per_request: int,
        decode_budget_bytes: int,
        max_answer_bytes: int = 64 * 1024 * 1024,
    ) -> None:
        self.catalog = catalog
        self.max_image_pixels = max_image_pixels
        self._max_images_per_request = max_images_per_request
        self._max_answer_bytes = max_answer_bytes
        self.decode_budget = DecodeBudget(decode_budget_bytes)
        self.mirror: Mirror | None = None
        self.explain = Explainer(catalog, max_image_pixels, self.decode_budget).explain

    @classmethod
    def of(cls, catalog: Catalog, settings: ServerSettings) -> Self:
        """The use case within the bounds of the settings."""
        return cls(
            catalog,
            max_image_pixels=settings.max_image_pixels,
            max_images_per_request=settings.max_images_per_request,
            decode_budget_bytes=decode_budget(settings),
            max_answer_bytes=settings.max_message_bytes,
        )

    def check_image_count(self, images: int) -> None:
        """Refuse a request without images, or with too many.

        Raises:
            InvalidRequestError: The number is 0 or over the limit.
        """
        if images == 0:
            raise InvalidRequestError("the request has no images: send at least one")
        if images > self._max_images_per_request:
            raise InvalidRequestError(
                f"the request has {images} images, over the limit of "
                f"{self._max_images_per_request} (--max-images-per-request): split it into several "
                "requests"
            )

    def classify(
        self,
        call: Call,
        choice: VersionChoice,
        sources: Sequence[ImageSource] | NDArray[np.uint8],
        respond: Callable[[Classified], _Response],
        *,
        allow_partial: bool = True,
        priority: Priority = Priority.NORMAL,
        timeout_seconds: float | None = None,
        answer_bytes: Callable[[Servable], int] | None = None,
        extras: Extras = NO_EXTRAS,
    ) -> _Response:
        """Classify images on one servable, and make the response.

        The servable stays loaded until `respond` returns, and the time that `respond` takes counts
        as part of the request.

        Args:
            call: The call that asks; its deadline and cancellation are respected. It learns which
                version answers.
            choice: The version to ask.
            sources: The images one by one; or all of them as the network's input itself, uint8
                `[rows, height, width, channels]`.
            respond: Makes the response from the answer.
            allow_partial: Whether an unusable image fails alone rather than failing the request. A
                request without any usable image fails in either case.
            priority: The priority of the rows in the queue.
            timeout_seconds: Maximum time for the answer, in addition to the call's deadline; None
                for the deadline alone.
            answer_bytes: Upper bound of what one image takes in the answer, besides the extras;
                None where it is small.
            extras: The optional outputs to compute as well.

        Raises:
            InvalidRequestError: The number of images, their shape or an image is not acceptable, or
                the answer would be larger than a message may be.
            NotFoundError: There is no such model, version or label.
            UnavailableError: The version cannot answer now.
            QueueFullError: Too many rows are waiting already.
            DeadlineExceededError: The deadline passed, or would pass, before the answer.
            CallerGoneError: The caller cancelled.
            InferenceFailedError: The engine failed.
        """
        if not 0 < len(sources) <= self._max_images_per_request:
            self.check_image_count(len(sources))
        servable = self.catalog.hold(choice)
        call.model, call.version = servable.name, servable.version_text
        # Read once: it may come or go meanwhile.
        mirror = self.mirror
        if mirror is not None:
            mirror.began()
        record = RequestRecord()
        refusals: dict[int, str] = {}
        admitted = False
        try:
            may_be_large = len(sources) * servable.most_answer_bytes > self._max_answer_bytes
            if answer_bytes is not None and (may_be_large or extras):
                bytes_each = answer_bytes(servable) + servable.extra_bytes(extras)
                if len(sources) * bytes_each > self._max_answer_bytes:
                    raise InvalidRequestError(self._too_large_answer(len(sources), bytes_each))
            if isinstance(sources, np.ndarray):
                if sources.shape[1:] != servable.image_shape:
                    raise InvalidRequestError(_wrong_shape(servable, sources))
                images = sources
            else:
                images, refusals, admitted = prepare_images(
                    servable,
                    sources,
                    call,
                    priority=priority,
                    max_image_pixels=self.max_image_pixels,
                    budget=self.decode_budget,
                )
                if refusals and not allow_partial:
                    index, reason = next(iter(refusals.items()))
                    raise InvalidRequestError(f"image {index}, counted from 0: {reason}")
            deadline = call.deadline
            if timeout_seconds is not None:
                until = time.monotonic() + timeout_seconds
                deadline = until if deadline is None else min(deadline, until)
            record.submitted_at = time.perf_counter_ns()
            try:
                arrays, record.queue_seconds, record.inference_seconds, record.batch_sizes = (
                    servable.batcher.submit(
                        images,
                        deadline=deadline,
                        priority=priority,
                        cancellation=call,
                        trace=call.trace,
                        admitted=admitted,
                        extras=extras,
                    )
                )
            finally:
                record.answered_at = time.perf_counter_ns()
                if call.trace is not None:
                    call.trace.submitted(record.submitted_at, record.answered_at)
            # A request that had its batch to itself gets the session's own tuple.
            outputs = arrays if isinstance(arrays, Outputs) else Outputs(*arrays)
            record.probabilities = outputs.probabilities
            answer = Classified(servable, images, outputs, record.batch_sizes, refusals)
            response = respond(answer)
            record.ended_at = time.perf_counter_ns()
            servable.metrics.answered(record)
            if mirror is not None:
                mirror.answered(call, sources, answer)
            if call.trace is not None:
                call.trace.stage("postprocess", record.answered_at, record.ended_at)
            return response
        except BaseException as error:
            servable.metrics.failed(record, error)
            raise
        finally:
            servable.release()
            if mirror is not None:
                mirror.ended()

    def _too_large_answer(self, images: int, bytes_each: int) -> str:
        return (
            f"the answer to {images} images would have about {images * bytes_each} bytes, over the "
            f"limit of {self._max_answer_bytes} (--max-message-bytes): ask for fewer classes with "
            "top_k, or send fewer images"
        )


def _wrong_shape(servable: Servable, images: NDArray[np.uint8]) -> str:
    shape = ", ".join(map(str, servable.image_shape))
    return f"the images have shape {list(images.shape)}; this model takes [rows, {shape}]"
