"""The one use case under every protocol: images in, probabilities out."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from convd.artifact.decoding import decode_image, picture_from_pixels
from convd.artifact.errors import InvalidImageError
from convd.artifact.graph_contract import OutputArrays, Outputs
from convd.artifact.preprocessing import ImageArray, prepare_image
from convd.service.batching.entry import Priority
from convd.service.calls.call import Call
from convd.service.errors import InvalidRequestError
from convd.service.inference.servable_hold import ServableHold
from convd.service.lifecycle.catalog import Catalog
from convd.service.servables.servable import Servable
from convd.service.statistics import NANOSECONDS, RequestTimes


@dataclass(slots=True)
class EncodedImage:
    """An image file: JPEG, PNG, WebP or BMP."""

    data: bytes


@dataclass(slots=True)
class PixelImage:
    """A decoded picture of any size: uint8, row-major `[height, width, channels]`."""

    data: bytes
    height: int
    width: int
    channels: int


@dataclass(slots=True)
class PreparedImage:
    """The network's input itself: uint8, row-major `[height, width, channels]`."""

    data: bytes


ImageSource = EncodedImage | PixelImage | PreparedImage


class Answer(NamedTuple):
    """What the network says to the rows of one request, in their order.

    Attributes:
        outputs: float32 `[rows, ...]` each.
        batch_sizes: Rows of each batch that the rows ran in.
    """

    outputs: OutputArrays
    batch_sizes: tuple[int, ...]


class InferenceService:
    """Prepares images and runs them on servables; knows no transport.

    Args:
        catalog: The servables.
        max_image_pixels: Largest picture that is decoded, height x width.
        max_images_per_request: Most images that one request may carry.
    """

    def __init__(
        self, catalog: Catalog, *, max_image_pixels: int, max_images_per_request: int
    ) -> None:
        self.catalog = catalog
        self._max_image_pixels = max_image_pixels
        self._max_images_per_request = max_images_per_request

    def servable(
        self, call: Call, name: str, version: int | None = None, *, label: str | None = None
    ) -> ServableHold:
        """Hold the servable that a call asks for, and note it in the call.

        Args:
            call: The call.
            name: The model.
            version: Its version; None for the newest that is available.
            label: A label of the version, instead of its number.

        Raises:
            NotFoundError: There is no such model, version or label.
            UnavailableError: The version cannot answer now.
        """
        servable = self.catalog.hold(name, version, label=label)
        call.model, call.version = servable.name, servable.version_text
        return ServableHold(servable, call)

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
                f"{self._max_images_per_request}: send them in several requests"
            )

    def prepare(
        self,
        servable: Servable,
        sources: Sequence[ImageSource],
        call: Call,
        *,
        priority: Priority = Priority.NORMAL,
    ) -> list[ImageArray | InvalidImageError]:
        """Decode and preprocess images in the calling thread.

        Nothing is decoded for a request that would be refused afterwards: a server that has too
        much to do has no time for it.

        Args:
            servable: Whose recipe to follow.
            sources: The images.
            call: The call that they belong to; its deadline and its end are heeded between images.
            priority: The priority that they will be run with.

        Returns:
            For each image the network's input, uint8 `[height, width, channels]`, or what is wrong
            with it.

        Raises:
            QueueFullError: Too many rows wait already.
            CallerGoneError: The caller cancelled.
            DeadlineExceededError: The caller's deadline passed, or would pass before the answer.
        """
        if any(not isinstance(source, PreparedImage) for source in sources):
            servable.batcher.check(len(sources), deadline=call.deadline, priority=priority)
        outcomes: list[ImageArray | InvalidImageError] = []
        for source in sources:
            call.check_wanted()
            try:
                outcomes.append(self._prepare_one(servable, source, call))
            except InvalidImageError as error:
                servable.metrics.images_refused.inc()
                outcomes.append(error)
        return outcomes

    def infer(
        self,
        servable: Servable,
        rows: NDArray[np.uint8],
        call: Call,
        *,
        priority: Priority = Priority.NORMAL,
        timeout_seconds: float | None = None,
    ) -> Answer:
        """Run prepared rows, together with those of other requests.

        Args:
            servable: What answers.
            rows: uint8 `[rows, height, width, channels]`.
            call: The call that they belong to; its deadline and its end are heeded.
            priority: Who is run first where many wait.
            timeout_seconds: How long the answer may take at most, where that is less than the
                call's deadline allows.

        Raises:
            QueueFullError: Too many rows wait already.
            DeadlineExceededError: The caller's deadline passed before the rows could run.
            CallerGoneError: The caller cancelled.
            InferenceFailedError: The engine failed.
        """
        deadline = call.deadline
        if timeout_seconds is not None:
            until = time.monotonic() + timeout_seconds
            deadline = until if deadline is None else min(deadline, until)
        times = call.times or RequestTimes()
        times.submitted()
        try:
            result = servable.batcher.submit(
                rows,
                deadline=deadline,
                priority=priority,
                cancellation=call.cancellation,
                trace=call.trace,
            )
        finally:
            if call.trace is not None:
                call.trace.submitted(times.submitted_at, time.perf_counter_ns())
        arrays, queue_seconds, inference_seconds, batch_sizes = result
        outputs = Outputs(*arrays)
        times.answered(len(rows), queue_seconds, inference_seconds, batch_sizes)
        servable.metrics.queue_seconds.observe(queue_seconds)
        servable.metrics.inference_seconds.observe(inference_seconds)
        servable.metrics.classified(outputs.probabilities)
        return Answer(outputs, batch_sizes)

    def _prepare_one(self, servable: Servable, source: ImageSource, call: Call) -> ImageArray:
        recipe = servable.manifest.preprocessing
        if isinstance(source, PreparedImage):
            if len(source.data) != servable.image_bytes:
                shape = " x ".join(map(str, servable.image_shape))
                raise InvalidImageError(
                    f"a prepared image of this model has {shape} = {servable.image_bytes} bytes, "
                    f"not {len(source.data)}"
                )
            return np.frombuffer(source.data, np.uint8).reshape(servable.image_shape)
        started = time.perf_counter_ns()
        picture = self._picture(source)
        decoded = time.perf_counter_ns()
        image = prepare_image(picture, recipe)
        prepared = time.perf_counter_ns()
        servable.metrics.decode_seconds.observe((decoded - started) / NANOSECONDS)
        servable.metrics.preprocess_seconds.observe((prepared - decoded) / NANOSECONDS)
        if call.trace is not None:
            call.trace.stage("decode", started, decoded)
            call.trace.stage("preprocess", decoded, prepared)
        return image

    def _picture(self, source: EncodedImage | PixelImage) -> Image.Image:
        if isinstance(source, EncodedImage):
            return decode_image(source.data, max_pixels=self._max_image_pixels)
        return picture_from_pixels(
            source.data, height=source.height, width=source.width, channels=source.channels
        )
