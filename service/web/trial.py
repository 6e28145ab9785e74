"""Trying a model: one image from a browser, through the use case that every protocol uses."""

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
"""Largest image file that can be tried."""

_MOST_AT_ONCE = 4
_PATIENCE_SECONDS = 30.0


class Trial:
    """Classifies the images that people try in the console.

    Args:
        inference: What classifies.
        recorder: Is told of every call.
    """

    def __init__(self, inference: InferenceService, recorder: CallRecorder) -> None:
        self._inference = inference
        self._recorder = recorder
        self._free = threading.Semaphore(_MOST_AT_ONCE)

    def classify(self, request: Request) -> Response:
        """Answer with every class and what the network saw, or with what an RPC would say.

        Args:
            request: Its body is an image file; its query has `model`, and `version` unless it is
                the newest.
        """
        call = Call(method=METHOD, protocol="http")
        call.deadline = call.started_at + _PATIENCE_SECONDS
        call.request_id = quote(request.headers.get("x-request-id", ""))
        self._recorder.begin(call, request.headers)
        try:
            return json_response(self._classify(request, call))
        # Whatever went wrong, one table says what the client is told.
        except Exception as error:
            return error_response(error, call)
        finally:
            self._recorder.end(call)

    def _classify(self, request: Request, call: Call) -> dict[str, object]:
        if not self._free.acquire(blocking=False):
            raise QueueFullError(
                f"{_MOST_AT_ONCE} images are being tried already: try again in a moment"
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
    labels = servable.manifest.labels
    return {
        "model": servable.name,
        "version": servable.version,
        "classes": [
            {"index": index, "label": labels[index], "probability": probability}
            for index, probability in top_classes(probabilities, 0)
        ],
        "input_shape": image.shape,
        "input_png": base64.b64encode(
            _png(image, servable.manifest.preprocessing.channel_order)
        ).decode(),
    }


def _choice(query: Mapping[str, str]) -> VersionChoice:
    name, version = query.get("model", ""), query.get("version", "")
    if not name:
        raise InvalidRequestError("the request names no model: choose one")
    if not version:
        return VersionChoice(name)
    if not (version.isascii() and version.isdigit() and 0 < int(version[:20]) < 2**63):
        raise InvalidRequestError(f"version {quote(version)}: send a whole number from 1 on")
    return VersionChoice(name, int(version))


def _png(image: ImageArray, order: ChannelOrder) -> bytes:
    """Show a prepared image, uint8 `[height, width, channels]`, as people see colours."""
    pixels = image[:, :, 0] if order == "L" else image[:, :, ::-1] if order == "BGR" else image
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "PNG")
    return buffer.getvalue()
