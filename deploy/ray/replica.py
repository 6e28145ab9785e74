"""One process of the deployment: the core of a server, whose calls Ray carries."""

from collections.abc import AsyncIterator
from typing import Any

from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message_factory import GetMessageClass

from convd.protos.convd.v1 import classification_pb2
from convd.protos.inference import grpc_service_pb2
from convd.service.calls.log_format import configure_logging
from convd.service.garbage import collect_and_freeze, collect_rarely
from convd.service.server_core import ServerCore
from convd.service.settings import SettingsError
from convd.service.settings_sources import load_settings
from deploy.ray.calls import Calls, Context

_SERVICERS = {
    "classification": classification_pb2.DESCRIPTOR.services_by_name["ClassificationService"],
    "open_inference": grpc_service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"],
}

OF_A_TRANSPORT = frozenset(
    {
        "allow_repository_control",
        "allowed_host",
        "console",
        "drain_seconds",
        "grpc_port",
        "health_watch_seconds",
        "host",
        "http_port",
        "http_threads",
        "insecure",
        "keepalive_seconds",
        "keepalive_timeout_seconds",
        "keepalive_without_calls",
        "lame_duck_seconds",
        "max_calls_per_connection",
        "max_connection_age_seconds",
        "max_health_watches",
        "max_ping_strikes",
        "max_pings_without_data",
        "max_waiting_calls",
        "message_timeout_seconds",
        "min_ping_interval_seconds",
        "reflection",
        "tls_certificate",
        "tls_client_ca",
        "tls_key",
        "worker_silence_seconds",
        "workers",
    }
)
"""Settings that mean nothing here: Ray listens, starts processes and drains them."""


_UNLOAD_SECONDS = 5.0
_TRACES_SECONDS = 2.0


class LoadError(Exception):
    """The models cannot be served; Ray keeps the replicas that it has."""


class Replica:
    """Serves models; has a method for every RPC, by its name.

    The constructor returns once every model is available, so Ray sends calls to no replica that is
    still loading, and goes no further with a version that fails its self-test.

    Args:
        cores: Number of cores for inference; None for all.
        **settings: Settings of `convd serve`, by name; the environment is not asked.

    Raises:
        SettingsError: A setting is unknown, has an unusable value, or is for Ray to decide.
        ArtifactError: The repository cannot be read.
        LoadError: A model is not available.
    """

    _open = False

    def __init__(self, cores: int | None = None, **settings: object) -> None:
        if others := sorted(OF_A_TRANSPORT & settings.keys()):
            raise SettingsError(f"{', '.join(others)}: on Ray Serve, these are for Ray to decide")
        merged = load_settings(settings, environment={})
        configure_logging(merged.log_format, merged.log_level)
        collect_rarely()
        self._core = ServerCore(merged, cores=cores)
        self._calls = Calls(self._core, merged)
        self._core.manager.start()
        self._core.manager.wait_for_first_look()
        if reason := self._core.manager.unready_reason():
            raise LoadError(reason)
        collect_and_freeze()
        self._open = True

    def check_health(self) -> None:
        """Ray calls this from time to time, and replaces a replica in which it raises.

        Raises:
            RuntimeError: Only the end of the process helps.
        """
        if reason := self._core.stuck_reason():
            raise RuntimeError(reason)

    def close(self) -> None:
        """Unload the models and send the traces that are left."""
        if self._open:
            self._open = False
            self._core.manager.stop_polling()
            self._core.manager.unload_all(_UNLOAD_SECONDS)
            self._core.close(_TRACES_SECONDS)

    # Ray calls it when it stops a replica, once the calls in progress have ended.
    __del__ = close


def _add_method(servicer_name: str, method: MethodDescriptor) -> None:
    name = f"/{method.containing_service.full_name}/{method.name}"

    async def unary(self: Replica, request: Any, grpc_context: Context) -> Any:  # noqa: ANN401
        work = getattr(getattr(self._core, servicer_name), method.name)
        answer = await self._calls.answer(name, work, request, grpc_context)
        # Ray sends a message besides the status.
        return GetMessageClass(method.output_type)() if answer is None else answer

    async def stream(
        self: Replica,
        request: Any,  # noqa: ANN401
        grpc_context: Context,
    ) -> AsyncIterator[Any]:
        work = getattr(getattr(self._core, servicer_name), method.name)
        async for answer in self._calls.stream(name, work, request, grpc_context):
            yield answer

    function: Any = stream if method.server_streaming else unary
    function.__name__ = method.name
    setattr(Replica, method.name, function)


for _name, _service in _SERVICERS.items():
    for _method in _service.methods:
        _add_method(_name, _method)
