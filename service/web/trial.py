"""Trying a model: classifies one image from the browser through the use case."""

import base64
import io
import time

from convd.artifact.preprocessing import ChannelOrder, ImageArray, picture_of
from convd.service.calls.call import Call
from convd.service.errors import InvalidRequestError
from convd.service.inference.explanation import Explanation, Question
from convd.service.inference.ranking import top_classes
from convd.service.inference.service import Classified, InferenceService
from convd.service.lifecycle.catalog import VersionChoice
from convd.service.quoting import quote
from convd.service.web.request import Head, Request
from convd.service.web.response import Response, json_response

_DEADLINE_SECONDS = 30.0


class Trial:
    """Classifies images that users try in the console, and explains the answers.

    Args:
        inference: The use case.
    """

    def __init__(self, inference: InferenceService) -> None:
        self._inference = inference

    def answer(self, request: Request, call: Call) -> Response:
        """Answer with every class and the network's input.

        Args:
            request: Its body is an image file; its query has `model`, and `version` unless the
                newest is meant.
            call: The call.
        """
        if call.deadline is None:
            call.deadline = request.arrived_at + _DEADLINE_SECONDS
        answer = self._inference.classify(
            call, _choice(request.head), [request.body], _describe_answer
        )
        return json_response(answer | {"seconds": time.monotonic() - call.started_at})

    def explain(self, request: Request, call: Call) -> Response:
        """Answer where in the image the evidence for a class lies.

        Args:
            request: As for `answer`; its query may have `label`, for another class than the best.
            call: The call.
        """
        if call.deadline is None:
            call.deadline = request.arrived_at + _DEADLINE_SECONDS
        label = request.head.parameter("label") or None
        question = Question(_choice(request.head), request.body, label=label)
        *_, found = self._inference.explain(call, question)
        assert isinstance(found, Explanation)  # noqa: S101
        return json_response(
            {
                "label": found.servable.manifest.labels[found.place],
                "probability": found.probability,
                "method": found.method.value,
                "overlay_png": base64.b64encode(found.picture).decode(),
                "seconds": time.monotonic() - call.started_at,
            }
        )


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


def _choice(head: Head) -> VersionChoice:
    name, version = head.parameter("model"), head.parameter("version")
    if not name:
        raise InvalidRequestError("the request does not name a model: choose one")
    if not version:
        return VersionChoice(name)
    if not (version.isascii() and version.isdigit() and 0 < int(version[:20]) < 2**63):
        raise InvalidRequestError(f"version is {quote(version)}: send a whole number from 1 up")
    return VersionChoice(name, int(version))


def _png(image: ImageArray, order: ChannelOrder) -> bytes:
    """Encode a prepared image, uint8 `[height, width, channels]`, with its colours in RGB."""
    buffer = io.BytesIO()
    picture_of(image, order).save(buffer, "PNG")
    return buffer.getvalue()
