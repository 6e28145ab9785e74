"""convd's own protocol: converts messages, and delegates to the use case."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import grpc
import numpy as np

from convd.artifact.graph_contract import (
    ACTIVATION_MAPS,
    FEATURES,
    NO_EXTRAS,
    Extras,
    OutputArrays,
)
from convd.protos.convd.v1 import classification_pb2 as pb
from convd.protos.convd.v1 import classification_pb2_grpc as pb_grpc
from convd.service.calls.call import Call, current_call
from convd.service.calls.status import error_status
from convd.service.errors import InvalidRequestError, ServiceError
from convd.service.inference.preparation import ImageSource, PixelImage
from convd.service.inference.ranking import top_classes
from convd.service.inference.service import Classified, InferenceService
from convd.service.lifecycle.catalog import VersionChoice
from convd.service.lifecycle.description import VersionDescription, describe
from convd.service.lifecycle.policy import State
from convd.service.protocols.comparison import comparison_message
from convd.service.protocols.explanation import read_question, write_part
from convd.service.shadow.report import ComparisonReport

_STATES = {
    State.LOADING: pb.ModelVersion.STATE_LOADING,
    State.AVAILABLE: pb.ModelVersion.STATE_AVAILABLE,
    State.DRAINING: pb.ModelVersion.STATE_DRAINING,
    State.UNLOADED: pb.ModelVersion.STATE_UNLOADED,
    State.FAILED: pb.ModelVersion.STATE_FAILED,
}

_TASKS = {"multiclass": pb.TASK_MULTICLASS, "multilabel": pb.TASK_MULTILABEL}


class ClassificationServicer(pb_grpc.ClassificationServiceServicer):
    """Implements `convd.v1.ClassificationService`.

    Args:
        inference: The use case.
        comparisons: Returns what all comparisons of versions have found, in every worker.
    """

    def __init__(
        self,
        inference: InferenceService,
        comparisons: Callable[[], Sequence[ComparisonReport]] = tuple,
    ) -> None:
        self._inference = inference
        self._comparisons = comparisons

    def Classify(  # noqa: N802
        self,
        request: pb.ClassifyRequest,
        context: grpc.ServicerContext,  # noqa: ARG002
    ) -> pb.ClassifyResponse:
        """Classify one or more images."""
        return self.answer(request, current_call())

    def ClassifyStream(  # noqa: N802
        self,
        request_iterator: Iterator[pb.ClassifyStreamRequest],
        context: grpc.ServicerContext,  # noqa: ARG002
    ) -> Iterator[pb.ClassifyStreamResponse]:
        """Classify request after request; an error concerns its own request only."""
        call = current_call()
        for message in request_iterator:
            response = pb.ClassifyStreamResponse(id=message.id)
            try:
                response.response.CopyFrom(self.answer(message.request, call))
            except ServiceError as error:
                response.error.CopyFrom(_error(error, call))
            yield response

    def Explain(  # noqa: N802
        self,
        request: pb.ExplainRequest,
        context: grpc.ServicerContext,  # noqa: ARG002
    ) -> Iterator[pb.ExplainResponse]:
        """Say where in an image the evidence for a class lies."""
        question = read_question(request, _choice(request.model))
        yield from map(write_part, self._inference.explain(current_call(), question))

    def ListModels(  # noqa: N802
        self,
        request: pb.ListModelsRequest,  # noqa: ARG002
        context: grpc.ServicerContext,  # noqa: ARG002
    ) -> pb.ListModelsResponse:
        """List every version with its state."""
        catalog = self._inference.catalog
        return pb.ListModelsResponse(
            models=[_model_version(describe(status, catalog)) for status in catalog.statuses()]
        )

    def GetModel(  # noqa: N802
        self,
        request: pb.GetModelRequest,
        context: grpc.ServicerContext,  # noqa: ARG002
    ) -> pb.GetModelResponse:
        """Describe one version."""
        catalog = self._inference.catalog
        status = catalog.status(_choice(request.model))
        response = pb.GetModelResponse(model=_model_version(describe(status, catalog)))
        if status.servable is not None:
            manifest = status.servable.manifest
            response.labels.extend(manifest.labels)
            response.input_shape.extend(manifest.preprocessing.output_shape)
            response.manifest_json = manifest.model_dump_json()
        return response

    def ListComparisons(  # noqa: N802
        self,
        request: pb.ListComparisonsRequest,
        context: grpc.ServicerContext,  # noqa: ARG002
    ) -> pb.ListComparisonsResponse:
        """Report how candidates differ from the versions that answer."""
        return self.list_comparisons(request.model_name)

    def list_comparisons(self, model: str = "") -> pb.ListComparisonsResponse:
        """What the comparisons of versions have found, of one model or of every one."""
        return pb.ListComparisonsResponse(
            comparisons=[
                comparison_message(report)
                for report in self._comparisons()
                if model in ("", report.model)
            ]
        )

    def answer(self, request: pb.ClassifyRequest, call: Call) -> pb.ClassifyResponse:
        """Answer one request for a call.

        Raises:
            ServiceError: For the reasons of `InferenceService.classify`.
        """
        if request.top_k < 0:
            raise InvalidRequestError(
                f"top_k is {request.top_k}: send the number of classes you want, or 0 for all"
            )
        extras = NO_EXTRAS
        if request.return_features or request.return_activation_maps:
            extras = _extras(request)
        sources: list[ImageSource] = []
        for image in request.images:
            kind = image.WhichOneof("source")
            if kind == "encoded":
                sources.append(image.encoded)
            elif kind == "prepared":
                sources.append(np.frombuffer(image.prepared, np.uint8))
            elif kind == "pixels":
                pixels = image.pixels
                sources.append(
                    PixelImage(pixels.data, pixels.height, pixels.width, pixels.channels)
                )
            else:
                sources.append(None)
        return self._inference.classify(
            call,
            _choice(request.model),
            sources,
            partial(_response, request.top_k, extras),
            answer_bytes=lambda servable: servable.answer_bytes(request.top_k),
            extras=extras,
        )


def _choice(spec: pb.ModelSpec) -> VersionChoice:
    if not spec.name:
        raise InvalidRequestError("the request does not name a model: set model.name")
    kind = spec.WhichOneof("version_choice")
    if kind is None:
        return VersionChoice(spec.name)
    if kind == "version_label":
        return VersionChoice(spec.name, label=spec.version_label)
    if spec.version < 1:
        raise InvalidRequestError(f"version is {spec.version}: versions start at 1")
    return VersionChoice(spec.name, spec.version)


def _extras(request: pb.ClassifyRequest) -> Extras:
    wanted = {
        FEATURES.name: request.return_features,
        ACTIVATION_MAPS.name: request.return_activation_maps,
    }
    return frozenset(name for name, is_wanted in wanted.items() if is_wanted)


def _response(top_k: int, extras: Extras, answer: Classified) -> pb.ClassifyResponse:
    servable, refusals = answer.servable, answer.refusals
    manifest = servable.manifest
    labels = manifest.labels
    response = pb.ClassifyResponse(
        model_name=servable.name, model_version=servable.version, task=_TASKS[manifest.task]
    )
    index = 0
    for probabilities in answer.outputs.probabilities:
        while index in refusals:
            _add_refusal(response, refusals[index])
            index += 1
        add = response.results.add().classification.classes.add
        for place, probability in top_classes(probabilities, top_k):
            add(index=place, label=labels[place], probability=probability)
        index += 1
    while index in refusals:
        _add_refusal(response, refusals[index])
        index += 1
    if extras:
        _add_extras(response, extras, answer.outputs)
    return response


def _add_extras(response: pb.ClassifyResponse, extras: Extras, outputs: OutputArrays) -> None:
    classified = [one.classification for one in response.results if one.HasField("classification")]
    if FEATURES.name in extras and outputs.features is not None:
        for message, features in zip(classified, outputs.features, strict=True):
            message.features.extend(features.tolist())
    if ACTIVATION_MAPS.name in extras and outputs.activation_maps is not None:
        for message, maps in zip(classified, outputs.activation_maps, strict=True):
            found = message.activation_maps
            found.maps, found.height, found.width = maps.shape
            found.values.extend(maps.ravel().tolist())


def _add_refusal(response: pb.ClassifyResponse, reason: str) -> None:
    error = response.results.add().error
    error.code, error.message = grpc.StatusCode.INVALID_ARGUMENT.value[0], reason


def _error(error: ServiceError, call: Call) -> pb.Error:
    status = error_status(error, call)
    return pb.Error(code=status.number, message=status.message)


def _model_version(description: VersionDescription) -> pb.ModelVersion:
    message = pb.ModelVersion(
        name=description.name,
        version=description.version,
        state=_STATES[description.state],
        reason=description.reason,
        version_labels=description.version_labels,
    )
    loaded = description.loaded
    if loaded is not None:
        message.provider = loaded.provider
        message.precision = loaded.precision
        message.provider_refusals.extend(loaded.provider_refusals)
        message.task = _TASKS[loaded.task]
        message.classes = len(loaded.labels)
        message.golden_difference = loaded.golden_difference
        if loaded.accuracy is not None:
            message.accuracy = loaded.accuracy.top1
            if loaded.accuracy.mean_average_precision is not None:
                message.mean_average_precision = loaded.accuracy.mean_average_precision
    return message
