"""Preparation: from the images that a caller sends to the rows that a network takes."""

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from convd.artifact.decoding import (
    check_pixels,
    decode_image,
    picture_from_pixels,
    read_header,
)
from convd.artifact.errors import InvalidImageError
from convd.artifact.footprint import footprint_of_file, footprint_of_pixels
from convd.artifact.preprocessing import ImageArray, prepare_image
from convd.runtime.home_core import HOME
from convd.service.batching.entry import Priority
from convd.service.calls.call import Call
from convd.service.errors import InvalidRequestError
from convd.service.inference.decode_budget import DecodeBudget
from convd.service.servables.servable import Servable

_NANOSECONDS = 1_000_000_000

_LONG_PIXELS = 128 * 128
"""A picture of so many is decoded and prepared away from the home core: in a tenth of a millisecond
or more, which is several times what it costs to move."""


@dataclass(slots=True)
class PixelImage:
    """A decoded picture of any size: uint8, row-major `[height, width, channels]`."""

    data: bytes
    height: int
    width: int
    channels: int


ImageSource = bytes | PixelImage | NDArray[np.uint8] | None
"""One image: a file (JPEG, PNG, WebP or BMP), pixels, or the network's input itself, uint8 in
row-major order, of any shape. None is an image for which the caller gave no source."""


def prepare_images(
    servable: Servable,
    sources: Sequence[ImageSource],
    call: Call,
    *,
    priority: Priority,
    max_image_pixels: int,
    budget: DecodeBudget,
) -> tuple[NDArray[np.uint8], dict[int, str], bool]:
    """Decode and preprocess images in the calling thread.

    The batcher is asked before anything is decoded: an overloaded server has no time to decode
    images for a request that it then refuses.

    Args:
        servable: The servable that the images are for.
        sources: The images.
        call: The call; its deadline and cancellation are checked before and while each image is
            decoded.
        priority: The priority that the rows will have.
        max_image_pixels: Largest picture that is decoded, height x width.
        budget: The memory that each image reserves while it is decoded and prepared.

    Returns:
        The usable images in order, uint8 `[rows, height, width, channels]`; the index of each other
        image with the reason; and whether the batcher has admitted the request.

    Raises:
        QueueFullError: Too many rows are waiting already, or too many images to decode.
        CallerGoneError: The caller cancelled.
        DeadlineExceededError: The deadline has passed, or would pass before the answer.
    """
    images: list[ImageArray] = []
    refusals: dict[int, str] = {}
    admitted = False
    for index, source in enumerate(sources):
        try:
            if isinstance(source, np.ndarray):
                if source.size != servable.image_bytes:
                    raise InvalidImageError(_wrong_size(servable, source.size))
                images.append(source.reshape(servable.image_shape))
                continue
            if source is None:
                raise InvalidImageError("the image has no source: set encoded, pixels or prepared")
            if not admitted:
                servable.batcher.check(len(sources), deadline=call.deadline, priority=priority)
                admitted = True
            call.check_wanted()
            images.append(decode_and_prepare(servable, source, call, max_image_pixels, budget))
        except InvalidImageError as error:
            servable.metrics.images_refused.inc()
            refusals[index] = str(error)
    if not images:
        raise InvalidRequestError(_no_usable_image(refusals))
    # A view of one image costs less than a copy.
    rows = images[0][np.newaxis] if len(images) == 1 else np.stack(images)
    return rows, refusals, admitted


def decode_and_prepare(
    servable: Servable,
    source: bytes | PixelImage,
    call: Call,
    max_image_pixels: int,
    budget: DecodeBudget,
    look: Callable[[Image.Image], object] | None = None,
) -> ImageArray:
    """Decode and preprocess one image in the calling thread.

    Args:
        servable: The servable that the image is for.
        source: The image.
        call: The call; its deadline and cancellation are checked.
        max_image_pixels: Largest picture that is decoded, height x width.
        budget: The memory that the image reserves meanwhile.
        look: Called with the decoded picture, which it must not keep.

    Raises:
        InvalidImageError: The image cannot be used.
        QueueFullError: Too many images are being decoded.
        CallerGoneError: The caller cancelled.
        DeadlineExceededError: The deadline has passed.
    """
    recipe = servable.manifest.preprocessing
    started_at = time.perf_counter_ns()
    if isinstance(source, bytes):
        header = read_header(source, max_pixels=max_image_pixels)
        pixels = header.width * header.height
        footprint_bytes = footprint_of_file(header, recipe)
    else:
        check_pixels(
            source.data, height=source.height, width=source.width, channels=source.channels
        )
        pixels = source.height * source.width
        footprint_bytes = footprint_of_pixels(source.height, source.width, source.channels, recipe)
    if call.principal is not None:
        call.principal.spend_pixels(pixels)
    with budget.reserve(footprint_bytes, call):
        long = pixels >= _LONG_PIXELS
        with HOME.away() if long else nullcontext():
            if isinstance(source, bytes):
                picture = decode_image(source, header=header, check=call.check_wanted)
            else:
                picture = picture_from_pixels(
                    source.data, height=source.height, width=source.width, channels=source.channels
                )
            decoded_at = time.perf_counter_ns()
            call.check_wanted()
            image = prepare_image(picture, recipe)
            if look is not None:
                look(picture)
        # The picture is freed before its memory is given back.
        del picture
    prepared_at = time.perf_counter_ns()
    servable.metrics.decode_seconds.observe((decoded_at - started_at) / _NANOSECONDS)
    servable.metrics.preprocess_seconds.observe((prepared_at - decoded_at) / _NANOSECONDS)
    if call.trace is not None:
        call.trace.stage("decode", started_at, decoded_at)
        call.trace.stage("preprocess", decoded_at, prepared_at)
    return image


def _wrong_size(servable: Servable, size_bytes: int) -> str:
    shape = " x ".join(map(str, servable.image_shape))
    return (
        f"a prepared image of this model has {shape} = {servable.image_bytes} bytes, "
        f"not {size_bytes}"
    )


def _no_usable_image(refusals: dict[int, str]) -> str:
    first = refusals[min(refusals)]
    if len(refusals) == 1:
        return first
    return f"none of the {len(refusals)} images can be used; the first: {first}"
