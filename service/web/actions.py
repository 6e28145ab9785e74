"""What the paths that need a model do, in the process that has the models."""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace

from convd.artifact.repository import ModelRepository
from convd.service.access.control import AccessControl
from convd.service.access.principal import Principal
from convd.service.calls.call import Call, set_current_call
from convd.service.calls.gate import CallGate
from convd.service.calls.recorder import CallRecorder
from convd.service.errors import InvalidRequestError
from convd.service.inference.decode_budget import DecodeBudget
from convd.service.inference.service import InferenceService
from convd.service.protocols.classification import ClassificationServicer
from convd.service.protocols.open_inference.servicer import OpenInferenceServicer
from convd.service.quoting import quote
from convd.service.web.api.classify import ClassifyPictures
from convd.service.web.api.inflation import inflate
from convd.service.web.api.open_inference import OpenInferenceHttp
from convd.service.web.console import Console
from convd.service.web.request import REQUEST_ID_HEADER, Head, Request
from convd.service.web.response import Response, error_response
from convd.service.web.trial import Trial

TIMEOUT_HEADER = "X-Request-Timeout"
"""How long the client waits, in seconds."""

_MAX_TIMEOUT_SECONDS = 86_400.0

# Inflated bodies of full size that may be held together.
_LARGEST_INFLATED = 4


class Actions:
    """The functions of all routes that need a model.

    Args:
        inference: The use case.
        classification: Answers in convd's own protocol.
        open_inference: Answers in the Open Inference Protocol.
        repository: Holds the artifacts.
        recorder: Records every call.
        gate: Tracks every call; once it is closed, new calls are refused.
        access: Knows the principals; None where anyone may do everything.
        max_message_bytes: Maximum size of a body, once it is inflated.
    """

    def __init__(
        self,
        inference: InferenceService,
        classification: ClassificationServicer,
        open_inference: OpenInferenceServicer,
        repository: ModelRepository,
        recorder: CallRecorder,
        gate: CallGate,
        *,
        access: AccessControl | None = None,
        max_message_bytes: int,
    ) -> None:
        self._max_message_bytes = max_message_bytes
        self._inflated = DecodeBudget(_LARGEST_INFLATED * max_message_bytes)
        self._recorder = recorder
        self._gate = gate
        self._access = access
        self._pages: Mapping[str, Callable[[Request], Response]] = Console(
            inference.catalog, repository, classification.list_comparisons
        ).actions
        trial = Trial(inference)
        self._calls: Mapping[str, Callable[[Request, Call], Response]] = {
            "console_classify": trial.answer,
            "console_explain": trial.explain,
            "classify": ClassifyPictures(classification, inference.check_image_count).answer,
            **OpenInferenceHttp(open_inference, inference.decode_budget).actions,
        }

    def answer(self, request: Request) -> Response:
        """Answer one request; errors become responses, which another process can send."""
        if request.route.recorded_as:
            return self._answer_call(request)
        # Not recorded, but what an error may tell depends on whose call it is.
        set_current_call(Call(protocol="http", principal=self._principal(request)))
        try:
            return self._pages[request.route.action](request)
        # The table of statuses covers every error.
        except Exception as error:
            return error_response(error)
        finally:
            set_current_call(None)

    def _principal(self, request: Request) -> Principal | None:
        return self._access.named(request.principal) if self._access else None

    def _answer_call(self, request: Request) -> Response:
        head = request.head
        call = Call(
            request_id=head.request_id,
            method=request.route.recorded_as,
            protocol="http",
            principal=self._principal(request),
        )
        gone = request.cancellation
        gone.listener = call.cancel
        if gone.cancelled:
            call.cancel()
        self._recorder.begin(call, head.headers)
        try:
            self._gate.enter(call)
            call.deadline = _deadline(head, request.arrived_at)
            call.check_wanted()
            response = self._answer_within_limits(request, call)
        # The table of statuses covers every error.
        except Exception as error:
            response = error_response(error, call)
        finally:
            self._gate.leave(call)
            self._recorder.end(call)
        return replace(response, headers=(*response.headers, (REQUEST_ID_HEADER, call.identify())))

    def _answer_within_limits(self, request: Request, call: Call) -> Response:
        if call.principal is None:
            return self._answer_encoded(request, call)
        call.principal.enter()
        try:
            return self._answer_encoded(request, call)
        finally:
            call.principal.leave()

    def _answer_encoded(self, request: Request, call: Call) -> Response:
        encoding = request.head.headers.get("content-encoding", "")
        if encoding:
            return self._answer_inflated(request, call, encoding)
        return self._calls[request.route.action](request, call)

    def _answer_inflated(self, request: Request, call: Call, encoding: str) -> Response:
        most_bytes = self._max_message_bytes
        if call.principal is not None and call.principal.limits.request_bytes is not None:
            most_bytes = min(most_bytes, call.principal.limits.request_bytes)
        with self._inflated.reserve(most_bytes, call):
            body = inflate(request.body, encoding, most_bytes)
            return self._calls[request.route.action](replace(request, body=body), call)


def _deadline(head: Head, arrived_at: float) -> float | None:
    """When the client stops waiting, in seconds of `time.monotonic`; None for never."""
    text = head.headers.get(TIMEOUT_HEADER.lower(), "") or head.parameter("timeout_seconds")
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds <= _MAX_TIMEOUT_SECONDS:
        raise InvalidRequestError(
            f"{TIMEOUT_HEADER} is '{quote(text)}': send a number of seconds over 0, up to "
            f"{_MAX_TIMEOUT_SECONDS:.0f}"
        )
    return arrived_at + seconds
