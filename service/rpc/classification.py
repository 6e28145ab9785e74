"""convd's own protocol: converts messages and delegates to the inference service."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import grpc
import numpy as np

from convd.artifact.errors import InvalidImageError
from convd.protos.convd.v1 import classification_pb2 as pb
from convd.protos.convd.v1 import classification_pb2_grpc as pb_grpc
from convd.service.calls.call import Call, current_call
from convd.service.calls.status import error_status
from convd.service.errors import InvalidRequestError, ServiceError
from convd.service.inference.ranking import top_classes
from convd.service.inference.service import (
    EncodedImage,
    ImageSource,
    InferenceService,
    PixelImage,
    PreparedImage,
)
from convd.service.lifecycle.catalog import Catalog, VersionStatus
from convd.service.lifecycle.policy import State
from convd.service.servables.servable import Servable

_STATES = {
    State.LOADING: pb.ModelVersion.STATE_LOADING,
    State.AVAILABLE: pb.ModelVersion.STATE_AVAILABLE,
    State.DRAINING: pb.ModelVersion.STATE_DRAINING,
    State.UNLOADED: pb.ModelVersion.STATE_UNLOADED,
    State.FAILED: pb.ModelVersion.STATE_FAILED,
}


class ClassificationServicer(pb_grpc.ClassificationServiceServicer):
    """Answers `convd.v1.ClassificationService`.

    Args:
        inference: The use case behind every method.
    """

    def __init__(self, inference: InferenceService) -> None:
        self._inference = inference

    def Classify(  # noqa: N802
        self,
        request: pb.ClassifyRequest,
        context: grpc.ServicerContext,  # noqa: ARG002
    ) -> pb.ClassifyResponse:
        """Classify one or more images."""
        return self._classify(request, current_call())

    def ClassifyStream(  # noqa: N802
        self,
        request_iterator: Iterator[pb.ClassifyStreamRequest],
        context: grpc.ServicerContext,  # noqa: ARG002
    ) -> Iterator[pb.ClassifyStreamResponse]:
        """Classify request after request; an error answers its own request only."""
        call = current_call()
        for message in request_iterator:
            response = pb.ClassifyStreamResponse(id=message.id)
            try:
                response.response.CopyFrom(self._classify(message.request, call))
            except ServiceError as error:
                response.error.CopyFrom(_error(error, call))
            yield response

    def ListModels(  # noqa: N802
        self,
        request: pb.ListModelsRequest,  # noqa: ARG002
        context: grpc.ServicerContext,  # noqa: ARG002
    ) -> pb.ListModelsResponse:
        """List every version with its state."""
        catalog = self._inference.catalog
        return pb.ListModelsResponse(
            models=[_model_version(status, catalog) for status in catalog.statuses()]
        )

    def GetModel(  # noqa: N802
        self,
        request: pb.GetModelRequest,
        context: grpc.ServicerContext,  # noqa: ARG002
    ) -> pb.GetModelResponse:
        """Describe one version."""
        choice = _choice(request.model)
        catalog = self._inference.catalog
        status = catalog.status(choice.name, choice.version, label=choice.label)
        response = pb.GetModelResponse(model=_model_version(status, catalog))
        if status.servable is not None:
            manifest = status.servable.manifest
            response.labels.extend(manifest.labels)
            response.input_shape.extend(manifest.preprocessing.output_shape)
            response.manifest_json = manifest.model_dump_json()
        return response

    def _classify(self, request: pb.ClassifyRequest, call: Call) -> pb.ClassifyResponse:
        self._inference.check_image_count(len(request.images))
        if request.top_k < 0:
            raise InvalidRequestError(
                f"top_k is {request.top_k}: send how many classes you want, or 0 for every class"
            )
        choice = _choice(request.model)
        with self._inference.servable(
            call, choice.name, choice.version, label=choice.label
        ) as servable:
            outcomes = self._inference.prepare(
                servable, [_source(one) for one in request.images], call
            )
            images = [image for image in outcomes if not isinstance(image, InvalidImageError)]
            if not images:
                raise InvalidRequestError(_no_image_is_usable(outcomes))
            rows = images[0][np.newaxis] if len(images) == 1 else np.stack(images)
            probabilities = iter(self._inference.infer(servable, rows, call).outputs.probabilities)
            response = pb.ClassifyResponse(model_name=servable.name, model_version=servable.version)
            for outcome in outcomes:
                result = response.results.add()
                if isinstance(outcome, InvalidImageError):
                    result.error.CopyFrom(_error(InvalidRequestError(str(outcome)), call))
                else:
                    _add_classes(result, servable, next(probabilities), request.top_k)
            return response


def _add_classes(
    result: pb.ImageResult, servable: Servable, probabilities: np.ndarray, top_k: int
) -> None:
    labels = servable.manifest.labels
    add = result.classification.classes.add
    for index, probability in top_classes(probabilities, top_k):
        one = add()
        one.index, one.label, one.probability = index, labels[index], probability


class _Choice(NamedTuple):
    name: str
    version: int | None = None
    label: str | None = None


def _choice(spec: pb.ModelSpec) -> _Choice:
    if not spec.name:
        raise InvalidRequestError("the request names no model: set model.name")
    choice = spec.WhichOneof("version_choice")
    if choice is None:
        return _Choice(spec.name)
    if choice == "version_label":
        return _Choice(spec.name, label=spec.version_label)
    if spec.version < 1:
        raise InvalidRequestError(f"version {spec.version}: versions begin at 1")
    return _Choice(spec.name, spec.version)


def _source(image: pb.Image) -> ImageSource:
    source = image.WhichOneof("source")
    if source == "encoded":
        return EncodedImage(image.encoded)
    if source == "prepared":
        return PreparedImage(image.prepared)
    if source is None:
        raise InvalidRequestError("an image has no source: set encoded, pixels or prepared")
    pixels = image.pixels
    return PixelImage(pixels.data, pixels.height, pixels.width, pixels.channels)


def _no_image_is_usable(outcomes: Sequence[object]) -> str:
    if len(outcomes) == 1:
        return str(outcomes[0])
    return f"none of the {len(outcomes)} images can be used; the first: {outcomes[0]}"


def _error(error: ServiceError, call: Call) -> pb.Error:
    status = error_status(error, call)
    return pb.Error(code=status.number, message=status.message)


def _model_version(status: VersionStatus, catalog: Catalog) -> pb.ModelVersion:
    labels = catalog.labels(status.name)
    message = pb.ModelVersion(
        name=status.name,
        version=status.version,
        state=_STATES[status.state],
        reason=status.reason or catalog.problem(status.name),
        version_labels=sorted(one for one in labels if labels[one] == status.version),
    )
    servable = status.servable
    if servable is not None:
        provider = servable.session.provider
        message.provider = provider.name
        message.precision = provider.computes_in(servable.manifest.precision)
        message.provider_refusals.extend(str(refusal) for refusal in servable.refusals)
        message.classes = len(servable.manifest.labels)
        message.golden_difference = servable.golden_difference
        if servable.manifest.accuracy is not None:
            message.accuracy = servable.manifest.accuracy.top1
    return message
