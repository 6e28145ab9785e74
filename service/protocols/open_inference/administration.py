"""The administrative part of the protocol: repository, trace and log settings, shared memory."""

from typing import NoReturn

import grpc

from convd.protos.inference import grpc_service_pb2 as pb
from convd.protos.inference import grpc_service_pb2_grpc as pb_grpc
from convd.service.errors import InvalidRequestError, PermissionDeniedError, UnsupportedError
from convd.service.lifecycle.catalog import Catalog, VersionChoice, VersionStatus
from convd.service.lifecycle.manager import ServableManager
from convd.service.lifecycle.policy import State
from convd.service.protocols.open_inference import log_settings
from convd.service.protocols.open_inference.parameters import SHARED_MEMORY_REASON
from convd.service.quoting import quote

_STATES = {
    State.LOADING: "LOADING",
    State.AVAILABLE: "READY",
    State.DRAINING: "UNLOADING",
    State.UNLOADED: "UNAVAILABLE",
    State.FAILED: "UNAVAILABLE",
}


class AdministrationServicer(pb_grpc.GRPCInferenceServiceServicer):
    """Implements the administrative methods; a subclass adds the rest of the protocol.

    Args:
        catalog: The versions.
        manager: Loads and unloads models.
        allow_control: Whether clients may load and unload models and set the log level.
    """

    def __init__(self, catalog: Catalog, manager: ServableManager, *, allow_control: bool) -> None:
        self._catalog = catalog
        self._manager = manager
        self._allow_control = allow_control

    def RepositoryIndex(  # noqa: N802
        self,
        request: pb.RepositoryIndexRequest,
        context: grpc.ServicerContext,  # noqa: ARG002
    ) -> pb.RepositoryIndexResponse:
        """List every version with its state."""
        _check_repository(request.repository_name)
        return pb.RepositoryIndexResponse(
            models=[
                pb.RepositoryIndexResponse.ModelIndex(
                    name=status.name,
                    version=str(status.version),
                    state=_STATES[status.state],
                    reason=_reason(status),
                )
                for status in self._catalog.statuses()
                if status.state is State.AVAILABLE or not request.ready
            ]
        )

    def RepositoryModelLoad(  # noqa: N802
        self,
        request: pb.RepositoryModelLoadRequest,
        context: grpc.ServicerContext,  # noqa: ARG002
    ) -> pb.RepositoryModelLoadResponse:
        """Load a model or its new versions, and wait until it is available."""
        self._check_control("load models")
        _check_repository(request.repository_name)
        if request.parameters:
            raise InvalidRequestError(
                f"parameter '{quote(min(request.parameters))}' is not supported: a model is "
                "configured by its config.yaml in the repository; load it without parameters"
            )
        self._manager.load_model(request.model_name)
        return pb.RepositoryModelLoadResponse()

    def RepositoryModelUnload(  # noqa: N802
        self,
        request: pb.RepositoryModelUnloadRequest,
        context: grpc.ServicerContext,  # noqa: ARG002
    ) -> pb.RepositoryModelUnloadResponse:
        """Unload every version of a model once its accepted requests have ended."""
        self._check_control("unload models")
        _check_repository(request.repository_name)
        self._manager.unload_model(request.model_name)
        return pb.RepositoryModelUnloadResponse()

    def TraceSetting(  # noqa: N802
        self,
        request: pb.TraceSettingRequest,
        context: grpc.ServicerContext,  # noqa: ARG002
    ) -> pb.TraceSettingResponse:
        """Report that this protocol's traces are off."""
        if request.model_name:
            self._catalog.status(VersionChoice(request.model_name))
        if request.settings:
            raise UnsupportedError(
                "trace settings cannot be changed over this protocol: use --traces-endpoint"
            )
        return pb.TraceSettingResponse(
            settings={"trace_level": pb.TraceSettingResponse.SettingValue(value=["OFF"])}
        )

    def LogSettings(  # noqa: N802
        self,
        request: pb.LogSettingsRequest,
        context: grpc.ServicerContext,  # noqa: ARG002
    ) -> pb.LogSettingsResponse:
        """Change the log settings if requested, and return them."""
        if request.settings:
            self._check_control("change log settings")
            log_settings.change(request.settings)
        return pb.LogSettingsResponse(settings=log_settings.current())

    def _refuse_shared_memory(self, request: object, context: grpc.ServicerContext) -> NoReturn:  # noqa: ARG002
        raise UnsupportedError(SHARED_MEMORY_REASON)

    SystemSharedMemoryStatus = _refuse_shared_memory
    SystemSharedMemoryRegister = _refuse_shared_memory
    SystemSharedMemoryUnregister = _refuse_shared_memory
    CudaSharedMemoryStatus = _refuse_shared_memory
    CudaSharedMemoryRegister = _refuse_shared_memory
    CudaSharedMemoryUnregister = _refuse_shared_memory

    def _check_control(self, what: str) -> None:
        if not self._allow_control:
            raise PermissionDeniedError(
                f"clients may not {what} on this server: start it with --allow-repository-control "
                "to allow that"
            )


def _check_repository(name: str) -> None:
    if name:
        raise InvalidRequestError(
            f"repository_name is '{quote(name)}', but this server has a single repository: leave "
            "it empty"
        )


def _reason(status: VersionStatus) -> str:
    if status.state is State.UNLOADED:
        return "unloaded"
    return status.reason
