"""The one table of who may do what: for every RPC and HTTP path, the scope that it needs.

What has no row here cannot be registered, so nothing is reachable that was not decided upon. The
rows of gRPC methods are checked by `rpc/registration.py`, those of paths by `web/`.
"""

from collections.abc import Callable
from operator import attrgetter
from typing import Any, NamedTuple

from convd.service.access.scopes import Scope


class Row(NamedTuple):
    """What one method or path needs.

    Attributes:
        scope: The scope; None if everybody may use it, without credentials too.
        model: Reads from a message which model it is about; None if the scope concerns no model.
        free: Whether one message needs no scope; None if all of them need it. A caller without the
            scope then reaches the method, and is refused once its message is there.
    """

    scope: Scope | None
    model: Callable[[Any], str] | None = None
    free: Callable[[Any], bool] | None = None

    @property
    def is_open(self) -> bool:
        """Whether a caller without any scope may begin a call."""
        return self.scope is None or self.free is not None


class UnlistedError(Exception):
    """A method or path has no row in the table: a fault of the program, which must not start."""


OPEN = Row(None)

_CONVD = "/convd.v1.ClassificationService/"
_INFERENCE = "/inference.GRPCInferenceService/"
_HEALTH = "/grpc.health.v1.Health/"

METHODS: dict[str, Row] = {
    _HEALTH + "Check": Row(Scope.HEALTH, free=lambda request: not request.service),
    _HEALTH + "List": Row(Scope.HEALTH),
    _HEALTH + "Watch": Row(Scope.HEALTH),
    _INFERENCE + "ServerLive": OPEN,
    _INFERENCE + "ServerReady": OPEN,
    _INFERENCE + "ModelReady": Row(Scope.HEALTH),
    _CONVD + "Classify": Row(Scope.INFER, attrgetter("model.name")),
    _CONVD + "ClassifyStream": Row(Scope.INFER, attrgetter("request.model.name")),
    _INFERENCE + "ModelInfer": Row(Scope.INFER, attrgetter("model_name")),
    _INFERENCE + "ModelStreamInfer": Row(Scope.INFER, attrgetter("model_name")),
    _CONVD + "ListModels": Row(Scope.LIST_MODELS),
    _INFERENCE + "RepositoryIndex": Row(Scope.LIST_MODELS),
    _INFERENCE + "ServerMetadata": Row(Scope.LIST_MODELS),
    _CONVD + "GetModel": Row(Scope.READ_MODEL, attrgetter("model.name")),
    _INFERENCE + "ModelMetadata": Row(Scope.READ_MODEL, attrgetter("name")),
    _INFERENCE + "ModelConfig": Row(Scope.READ_MODEL, attrgetter("name")),
    _INFERENCE + "ModelStatistics": Row(Scope.READ_METRICS),
    _INFERENCE + "RepositoryModelLoad": Row(Scope.ADMINISTER_MODELS),
    _INFERENCE + "RepositoryModelUnload": Row(Scope.ADMINISTER_MODELS),
    # Memory of the server's machine: refused to everybody, and talked about with administrators.
    _INFERENCE + "SystemSharedMemoryStatus": Row(Scope.ADMINISTER_MODELS),
    _INFERENCE + "SystemSharedMemoryRegister": Row(Scope.ADMINISTER_MODELS),
    _INFERENCE + "SystemSharedMemoryUnregister": Row(Scope.ADMINISTER_MODELS),
    _INFERENCE + "CudaSharedMemoryStatus": Row(Scope.ADMINISTER_MODELS),
    _INFERENCE + "CudaSharedMemoryRegister": Row(Scope.ADMINISTER_MODELS),
    _INFERENCE + "CudaSharedMemoryUnregister": Row(Scope.ADMINISTER_MODELS),
    _INFERENCE + "LogSettings": Row(Scope.ADMINISTER_LOGS),
    _INFERENCE + "TraceSetting": Row(Scope.ADMINISTER_LOGS),
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": Row(Scope.REFLECT),
}


def row_of_method(method: str) -> Row:
    """The row of a gRPC method, by its full name.

    Raises:
        UnlistedError: It has none.
    """
    try:
        return METHODS[method]
    except KeyError:
        raise UnlistedError(
            f"{method} has no row in service/access/table.py: decide which scope it needs"
        ) from None
