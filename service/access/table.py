"""The one table of who may do what: for every RPC and HTTP path, the scope that it needs.

What has no row here cannot be registered, so nothing is reachable that was not decided upon. The
rows of gRPC methods are checked by `rpc/registration.py`, those of paths by `web/site.py`.
"""

from collections.abc import Callable, Mapping
from operator import attrgetter
from typing import Any, NamedTuple

from convd.service.access.scopes import Scope


class Row(NamedTuple):
    """What one method or path needs.

    Attributes:
        scope: The scope; None if anyone may use it, without credentials too.
        model: Reads from a message, or from the address of a request over HTTP, which model it is
            about; None if the scope concerns no model.
        free: Whether one message needs no scope; None if all of them need it. A caller without the
            scope then reaches the method, and is refused once its message is there.
        reasons: The scope without which the answer leaves out its reasons; None if it has none.
    """

    scope: Scope | None
    model: Callable[[Any], str] | None = None
    free: Callable[[Any], bool] | None = None
    reasons: Scope | None = None

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
    _CONVD + "Explain": Row(Scope.INFER, attrgetter("model.name")),
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
    # It may hold pictures of every caller.
    _CONVD + "ListComparisons": Row(Scope.ADMINISTER_MODELS),
    _INFERENCE + "RepositoryModelLoad": Row(Scope.ADMINISTER_MODELS),
    _INFERENCE + "RepositoryModelUnload": Row(Scope.ADMINISTER_MODELS),
    # Memory of the server's machine: refused to all callers, and only administrators learn so.
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


class Address(NamedTuple):
    """What the address of a request over HTTP says of models.

    Attributes:
        segments: The variable parts of its path, by name.
        parameters: The last value of each parameter.
    """

    segments: Mapping[str, str]
    parameters: Mapping[str, str]


def _in_path(address: Address) -> str:
    return address.segments["model"]


def _in_query(address: Address) -> str:
    return address.parameters.get("model", "")


_PROBE = Row(None, reasons=Scope.LIST_MODELS)
_MODELS = ("/v2/models/{model}", "/v2/models/{model}/versions/{version}")

PATHS: dict[tuple[str, str], Row] = {
    ("GET", "/livez"): _PROBE,
    ("GET", "/readyz"): _PROBE,
    ("GET", "/v2/health/live"): _PROBE,
    ("GET", "/v2/health/ready"): _PROBE,
    # The page without its data.
    ("GET", "/"): OPEN,
    ("GET", "/static/{file}"): OPEN,
    **{("GET", f"{model}/ready"): Row(Scope.HEALTH) for model in _MODELS},
    ("POST", "/api/classify"): Row(Scope.INFER, _in_query),
    ("POST", "/api/explain"): Row(Scope.INFER, _in_query),
    ("POST", "/v1/classify/{model}"): Row(Scope.INFER, _in_path),
    **{("POST", f"{model}/infer"): Row(Scope.INFER, _in_path) for model in _MODELS},
    ("GET", "/api/models"): Row(Scope.LIST_MODELS),
    ("GET", "/v2"): Row(Scope.LIST_MODELS),
    ("POST", "/v2/repository/index"): Row(Scope.LIST_MODELS),
    ("GET", "/api/models/{model}/{version}"): Row(Scope.READ_MODEL, _in_path),
    ("GET", "/api/models/{model}/{version}/files/{file...}"): Row(Scope.READ_MODEL, _in_path),
    **{("GET", model): Row(Scope.READ_MODEL, _in_path) for model in _MODELS},
    **{("GET", f"{model}/config"): Row(Scope.READ_MODEL, _in_path) for model in _MODELS},
    ("GET", "/metrics"): Row(Scope.READ_METRICS),
    ("GET", "/v2/models/stats"): Row(Scope.READ_METRICS),
    **{("GET", f"{model}/stats"): Row(Scope.READ_METRICS) for model in _MODELS},
    ("GET", "/api/comparisons"): Row(Scope.ADMINISTER_MODELS),
    ("POST", "/v2/repository/models/{model}/load"): Row(Scope.ADMINISTER_MODELS),
    ("POST", "/v2/repository/models/{model}/unload"): Row(Scope.ADMINISTER_MODELS),
    **{
        (method, f"/v2/{kind}sharedmemory/{{request...}}"): Row(Scope.ADMINISTER_MODELS)
        for method in ("GET", "POST")
        for kind in ("system", "cuda")
    },
    ("GET", "/v2/logging"): Row(Scope.ADMINISTER_LOGS),
    ("POST", "/v2/logging"): Row(Scope.ADMINISTER_LOGS),
    ("GET", "/v2/trace/setting"): Row(Scope.ADMINISTER_LOGS),
    ("GET", "/v2/models/{model}/trace/setting"): Row(Scope.ADMINISTER_LOGS),
}


def row_of_path(method: str, path: str) -> Row:
    """The row of an HTTP method and path; `{name}` stands for a variable part.

    Raises:
        UnlistedError: They have none.
    """
    try:
        return PATHS[method, path]
    except KeyError:
        raise UnlistedError(
            f"{method} {path} has no row in service/access/table.py: decide which scope it needs"
        ) from None


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
