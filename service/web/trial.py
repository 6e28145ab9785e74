"""Trying a model: classifies one image from the browser through the use case."""

import base64
import io
import threading
import time
from collections.abc import Mapping

import numpy as np
from PIL import Image

from convd.artifact.preprocessing import ChannelOrder, ImageArray
from convd.service.calls.call import Call
from convd.service.calls.recorder import CallRecorder
from convd.service.errors import InvalidRequestError, QueueFullError
from convd.service.inference.ranking import top_classes
from convd.service.inference.service import Classified, InferenceService
from convd.service.lifecycle.catalog import VersionChoice
from convd.service.quoting import quote
from convd.service.web.request import Request
from convd.service.web.response import Response, error_response, json_response

METHOD = "/console/classify"
MAX_IMAGE_BYTES = 16 * 1024 * 1024
"""Maximum size of an image file to try."""

_MAX_CONCURRENT_TRIALS = 4
_DEADLINE_SECONDS = 30.0


class Trial:
    """Classifies images that users try in the console.

    Args:
        inference: The use case.
        recorder: Records every call.
    """

    def __init__(self, inference: InferenceService, recorder: CallRecorder) -> None:
        self._inference = inference
        self._recorder = recorder
        self._free = threading.Semaphore(_MAX_CONCURRENT_TRIALS)

    def classify(self, request: Request) -> Response:
        """Answer with every class and the network's input, or with the error of an RPC.

        Args:
            request: Its body is an image file; its query has `model`, and `version` unless the
                newest is meant.
        """
        call = Call(method=METHOD, protocol="http")
        call.deadline = call.started_at + _DEADLINE_SECONDS
        call.request_id = quote(request.headers.get("x-request-id", ""))
        self._recorder.begin(call, request.headers)
        try:
            return json_response(self._classify(request, call))
        # The table of statuses covers every error.
        except Exception as error:
            return error_response(error, call)
        finally:
            self._recorder.end(call)

    def _classify(self, request: Request, call: Call) -> dict[str, object]:
        if not self._free.acquire(blocking=False):
            raise QueueFullError(
                f"{_MAX_CONCURRENT_TRIALS} images are being classified already: try again shortly"
            )
        try:
            answer = self._inference.classify(
                call, _choice(request.query), [request.body], _describe_answer
            )
        finally:
            self._free.release()
        return answer | {"seconds": time.monotonic() - call.started_at}


def _describe_answer(answer: Classified) -> dict[str, object]:
    servable, [image], [probabilities] = (
        answer.servable,
        answer.images,
        answer.outputs.probabilities,
    )
    manifest = servable.manifest
    return {
        "model": servable.name,
        "version": servable.version,
        "task": manifest.task,
        "classes": [
            {"index": index, "label": manifest.labels[index], "probability": probability}
            for index, probability in top_classes(probabilities, 0)
        ],
        "input_shape": image.shape,
        "input_png": base64.b64encode(_png(image, manifest.preprocessing.channel_order)).decode(),
    }


def _choice(query: Mapping[str, str]) -> VersionChoice:
    name, version = query.get("model", ""), query.get("version", "")
    if not name:
        raise InvalidRequestError("the request does not name a model: choose one")
    if not version:
        return VersionChoice(name)
    if not (version.isascii() and version.isdigit() and 0 < int(version[:20]) < 2**63):
        raise InvalidRequestError(f"version is {quote(version)}: send a whole number from 1 up")
    return VersionChoice(name, int(version))


def _png(image: ImageArray, order: ChannelOrder) -> bytes:
    """Encode a prepared image, uint8 `[height, width, channels]`, with its colours in RGB."""
    pixels = image[:, :, 0] if order == "L" else image[:, :, ::-1] if order == "BGR" else image
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "PNG")
    return buffer.getvalue()
