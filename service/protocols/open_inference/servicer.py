"""The Open Inference Protocol: converts messages, and delegates to the use case."""

from collections.abc import Callable, Iterator
from functools import partial

import grpc

from convd import __version__
from convd.artifact.graph_contract import OUTPUTS
from convd.protos.inference import grpc_service_pb2 as pb
from convd.service.batching.entry import Priority
from convd.service.calls.call import Call, current_call
from convd.service.calls.status import error_status
from convd.service.errors import InvalidRequestError, NotFoundError, ServiceError
from convd.service.inference.service import InferenceService
from convd.service.lifecycle.manager import ServableManager
from convd.service.lifecycle.policy import State
from convd.service.protocols.open_inference.administration import AdministrationServicer
from convd.service.protocols.open_inference.parameters import flag
from convd.service.protocols.open_inference.request import RequestReader, read_choice
from convd.service.protocols.open_inference.response import answer_bytes, make_response
from convd.service.protocols.open_inference.signature import (
    model_config,
    model_metadata,
)
from convd.service.protocols.open_inference.statistics import statistics_message
from convd.service.settings import ServerSettings
from convd.service.statistics import Statistics, StatisticsByVersion

EXTENSIONS = (
    "classification",
    "schedule_policy",
    "model_configuration",
    "binary_tensor_data",
    "parameters",
    "statistics",
    "logging",
)
"""Extensions that are always on; `model_repository` needs --allow-repository-control."""


class OpenInferenceServicer(AdministrationServicer):
    """Implements `inference.GRPCInferenceService`.

    Args:
        inference: The use case.
        manager: Loads and unloads models, and knows whether the server is ready.
        settings: The server's settings.
        statistics: Returns the statistics of all workers; None for a single process.
    """

    def __init__(
        self,
        inference: InferenceService,
        manager: ServableManager,
        settings: ServerSettings,
        statistics: Callable[[], StatisticsByVersion] | None = None,
    ) -> None:
        super().__init__(
            inference.catalog, manager, allow_control=settings.allow_repository_control
        )
        self._inference = inference
        self._reader = RequestReader(OUTPUTS._asdict(), inference.check_image_count)
        self._manager = manager
        self._settings = settings
        self._statistics = statistics or inference.catalog.statistics

    def ServerLive(  # noqa: N802
        self,
        request: pb.ServerLiveRequest,  # noqa: ARG002
        context: grpc.ServicerContext,  # noqa: ARG002
    ) -> pb.ServerLiveResponse:
        """Report that the server is running."""
        return pb.ServerLiveResponse(live=True)

    def ServerReady(  # noqa: N802
        self,
        request: pb.ServerReadyRequest,  # noqa: ARG002
        context: grpc.ServicerContext,  # noqa: ARG002
    ) -> pb.ServerReadyResponse:
        """Report whether every model is available."""
        return pb.ServerReadyResponse(ready=not self._manager.unready_reason())

    def ModelReady(  # noqa: N802
        self,
        request: pb.ModelReadyRequest,
        context: grpc.ServicerContext,  # noqa: ARG002
    ) -> pb.ModelReadyResponse:
        """Report whether a model is available; an unknown model is not ready."""
        choice = read_choice(request.name, request.version)
        try:
            status = self._inference.catalog.status(choice)
        except NotFoundError:
            return pb.ModelReadyResponse(ready=False)
        return pb.ModelReadyResponse(ready=status.state is State.AVAILABLE)

    def ServerMetadata(  # noqa: N802
        self,
        request: pb.ServerMetadataRequest,  # noqa: ARG002
        context: grpc.ServicerContext,  # noqa: ARG002
    ) -> pb.ServerMetadataResponse:
        """Report name, version and extensions of the server."""
        control = ("model_repository",) if self._settings.allow_repository_control else ()
        return pb.ServerMetadataResponse(
            name="convd",
            version=__version__,
            extensions=(*EXTENSIONS, *control),
        )

    def ModelMetadata(  # noqa: N802
        self,
        request: pb.ModelMetadataRequest,
        context: grpc.ServicerContext,  # noqa: ARG002
    ) -> pb.ModelMetadataResponse:
        """Describe a model's inputs and outputs."""
        catalog = self._inference.catalog
        with catalog.acquire(read_choice(request.name, request.version)) as servable:
            versions = [
                status.version
                for status in catalog.statuses(request.name)
                if status.state is State.AVAILABLE
            ]
            return model_metadata(servable, versions)

    def ModelConfig(  # noqa: N802
        self,
        request: pb.ModelConfigRequest,
        context: grpc.ServicerContext,  # noqa: ARG002
    ) -> pb.ModelConfigResponse:
        """Describe a model's configuration."""
        catalog = self._inference.catalog
        with catalog.acquire(read_choice(request.name, request.version)) as servable:
            policy = self._manager.version_policy(servable.name)
            return pb.ModelConfigResponse(config=model_config(servable, policy))

    def ModelStatistics(  # noqa: N802
        self,
        request: pb.ModelStatisticsRequest,
        context: grpc.ServicerContext,  # noqa: ARG002
    ) -> pb.ModelStatisticsResponse:
        """Report how often models have answered, and where the time went."""
        choice = read_choice(request.name, request.version)
        catalog = self._inference.catalog
        if not request.name:
            if request.version:
                raise InvalidRequestError("version is set but name is empty: name the model")
            statuses = catalog.statuses()
        else:
            status = catalog.status(choice)
            statuses = [status] if request.version else catalog.statuses(request.name)
        loaded = [(one.name, one.version) for one in statuses if one.servable is not None]
        counted = self._statistics()
        return pb.ModelStatisticsResponse(
            model_stats=[
                statistics_message(*version, counted.get(version, Statistics()))
                for version in loaded
            ]
        )

    def ModelInfer(  # noqa: N802
        self,
        request: pb.ModelInferRequest,
        context: grpc.ServicerContext,  # noqa: ARG002
    ) -> pb.ModelInferResponse:
        """Run a model on the rows of one request."""
        return self.infer(request, current_call())

    def ModelStreamInfer(  # noqa: N802
        self,
        request_iterator: Iterator[pb.ModelInferRequest],
        context: grpc.ServicerContext,  # noqa: ARG002
    ) -> Iterator[pb.ModelStreamInferResponse]:
        """Run request after request; an error concerns its own request only."""
        call = current_call()
        for request in request_iterator:
            response = pb.ModelStreamInferResponse()
            try:
                response.infer_response.CopyFrom(self.infer(request, call))
            except ServiceError as error:
                response.error_message = error_status(error, call).message
                response.infer_response.id = request.id
            if flag(request.parameters, "triton_enable_empty_final_response"):
                # Each request has a single response, which is also its last.
                response.infer_response.parameters["triton_final_response"].bool_param = True
            yield response

    def infer(self, request: pb.ModelInferRequest, call: Call) -> pb.ModelInferResponse:
        """Answer one request of either method.

        Raises:
            ServiceError: The request was refused or failed.
        """
        read = self._reader.read(request)
        return self._inference.classify(
            call,
            read_choice(request.model_name, request.model_version),
            read.images,
            partial(make_response, request.id, read),
            # Tensors need a row for every image, so one unusable image fails the request.
            allow_partial=False,
            priority=Priority.HIGH if read.priority == Priority.HIGH else Priority.NORMAL,
            timeout_seconds=read.timeout_seconds,
            answer_bytes=partial(answer_bytes, read.wanted.outputs),
            extras=read.wanted.extras,
        )
