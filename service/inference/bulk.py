"""Many files at once, past the queue: for a process that has nothing else to answer."""

import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from convd.artifact.errors import InvalidImageError
from convd.artifact.preprocessing import ImageArray
from convd.service.batching.entry import FAILED
from convd.service.calls.call import Call
from convd.service.errors import InferenceFailedError, QueueFullError
from convd.service.inference.decode_budget import DecodeBudget
from convd.service.inference.preparation import decode_and_prepare
from convd.service.servables.servable import Servable

_PAUSE_SECONDS = 0.1


class BulkAnswer(NamedTuple):
    """The network's answer to several files.

    Attributes:
        probabilities: float32 `[usable files, labels]`, in order.
        refusals: The index of each other file, with the reason.
        seconds: For each file, how long it took to decode and prepare, and its share of the run.
    """

    probabilities: NDArray[np.float32]
    refusals: dict[int, str]
    seconds: NDArray[np.float32]


def answer_files(
    servable: Servable,
    files: Sequence[bytes],
    call: Call,
    *,
    max_image_pixels: int,
    budget: DecodeBudget,
) -> BulkAnswer:
    """Decode, prepare and run files in the calling thread.

    A batch has the rows of these files alone, whatever other threads do, so the same files give the
    same bits every time.

    Args:
        servable: The servable that the files are for.
        files: Image files.
        call: The call that asks.
        max_image_pixels: Largest picture that is decoded, height x width.
        budget: The memory that each picture reserves while it is decoded and prepared.

    Raises:
        InferenceFailedError: The engine failed.
    """
    images: list[ImageArray] = []
    refusals: dict[int, str] = {}
    seconds = np.zeros(len(files), np.float32)
    started_at = time.perf_counter()
    for index, data in enumerate(files):
        try:
            images.append(_prepared(servable, data, call, max_image_pixels, budget))
        except InvalidImageError as error:
            refusals[index] = str(error)
        prepared_at = time.perf_counter()
        seconds[index] = prepared_at - started_at
        started_at = prepared_at
    if not images:
        nothing = np.zeros((0, len(servable.manifest.labels)), np.float32)
        return BulkAnswer(nothing, refusals, seconds)
    probabilities = _run(servable, np.stack(images))
    usable = [index for index in range(len(files)) if index not in refusals]
    seconds[usable] += (time.perf_counter() - started_at) / len(usable)
    return BulkAnswer(probabilities, refusals, seconds)


def _prepared(
    servable: Servable, data: bytes, call: Call, max_image_pixels: int, budget: DecodeBudget
) -> ImageArray:
    while True:
        try:
            return decode_and_prepare(servable, data, call, max_image_pixels, budget)
        # Other threads have the memory now. Nobody waits for this answer, and whether a picture has
        # one must not depend on the moment.
        except QueueFullError:
            time.sleep(_PAUSE_SECONDS)


def _run(servable: Servable, rows: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Run rows in batches no larger than the server's: their activations have a bound."""
    instances = servable.instances
    session = servable.session if instances is None else instances.session
    largest = (
        servable.settings.max_batch_size if instances is None else instances.engine.max_batch_size
    )
    parts = []
    for start in range(0, len(rows), largest):
        with session.turn():
            try:
                parts.append(session.run(rows[start : start + largest]).probabilities)
            # ONNX Runtime raises a class per status code.
            except Exception as error:
                raise InferenceFailedError(FAILED) from error
    return parts[0] if len(parts) == 1 else np.concatenate(parts)
