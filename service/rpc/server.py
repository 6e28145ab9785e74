"""The gRPC server: its services, limits and drain."""

import threading
import time
from typing import TYPE_CHECKING, cast

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from convd.protos.convd.v1 import classification_pb2 as pb
from convd.protos.convd.v1 import classification_pb2_grpc as pb_grpc
from convd.protos.inference import grpc_service_pb2 as open_inference_pb
from convd.protos.inference import grpc_service_pb2_grpc as open_inference_pb_grpc
from convd.runtime.home_core import HOME
from convd.service.access.control import AccessControl
from convd.service.address import BindError, join_address
from convd.service.calls.gate import CallGate
from convd.service.calls.recorder import CallRecorder
from convd.service.protocols.classification import ClassificationServicer
from convd.service.protocols.open_inference.servicer import OpenInferenceServicer
from convd.service.rpc.arrival import ArrivalInterceptor
from convd.service.rpc.call_threads import MAX_SILENT, CallThreads
from convd.service.rpc.credentials import server_credentials
from convd.service.rpc.health import HealthServicer
from convd.service.rpc.interceptor import CallInterceptor
from convd.service.rpc.registration import Registry
from convd.service.rpc.transport_log import thin_out_transport_log
from convd.service.settings import ServerSettings
from convd.service.tls import TlsFiles

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

SERVICE_NAMES = (
    pb.DESCRIPTOR.services_by_name["ClassificationService"].full_name,
    open_inference_pb.DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name,
    health_pb2.DESCRIPTOR.services_by_name["Health"].full_name,
    reflection.SERVICE_NAME,
)

# An old connection ends after this, whatever calls and idle streams it still has.
_AGE_GRACE_SECONDS = 300.0

# What an answer has besides the classes and tensors, whose size is checked before the work.
_ENVELOPE_BYTES = 64 * 1024

_QUIET_SECONDS = 0.2
_MAX_LINGER_SECONDS = 1.0


class GrpcServer:
    """A synchronous gRPC server, which works on each unary call in a thread.

    Args:
        classification: Answers in convd's own protocol.
        open_inference: Answers in the Open Inference Protocol.
        recorder: Records every call.
        settings: Address and limits.
        access: Decides who may do what; None where anyone may do everything.
        tls: Its certificate; None for a plain port.
        shares_port: Whether other workers listen on the same port.

    Raises:
        BindError: The port is in use or not allowed.
    """

    def __init__(
        self,
        classification: ClassificationServicer,
        open_inference: OpenInferenceServicer,
        recorder: CallRecorder,
        settings: ServerSettings,
        *,
        access: AccessControl | None = None,
        tls: TlsFiles | None = None,
        shares_port: bool = False,
    ) -> None:
        thin_out_transport_log()
        self._gate = CallGate()
        self._threads = CallThreads(settings.unary_threads, "unary", self._gate.in_progress)
        self._server = grpc.server(
            # gRPC only calls the pool's `submit`.
            cast("ThreadPoolExecutor", self._threads),
            interceptors=self._interceptors(access, recorder, settings),
            maximum_concurrent_rpcs=settings.unary_threads
            + settings.max_waiting_calls
            + MAX_SILENT
            + settings.max_streams
            + settings.max_explanations,
            options=[
                ("grpc.max_receive_message_length", settings.max_message_bytes),
                (
                    "grpc.max_send_message_length",
                    min(settings.max_message_bytes + _ENVELOPE_BYTES, 2**31 - 1),
                ),
                # Otherwise a second server on the same port would silently take half of the calls.
                ("grpc.so_reuseport", int(shares_port)),
                ("grpc.max_concurrent_streams", settings.max_calls_per_connection),
                *_connection_age(settings.max_connection_age_seconds),
                *_keepalive(settings),
            ],
        )
        self._health = HealthServicer(
            max_watches=settings.max_health_watches, watch_seconds=settings.health_watch_seconds
        )
        self.set_serving("", serving=False)
        names = SERVICE_NAMES if settings.reflection else SERVICE_NAMES[:-1]
        for name in names:
            self.set_serving(name, serving=True)
        registry = cast("grpc.Server", Registry(self._server, access))
        pb_grpc.add_ClassificationServiceServicer_to_server(classification, registry)
        open_inference_pb_grpc.add_GRPCInferenceServiceServicer_to_server(open_inference, registry)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, registry)
        if settings.reflection:
            reflection.enable_server_reflection(names, registry)
        self._credentials = server_credentials(tls) if tls is not None else None
        self._address = join_address(settings.host, settings.grpc_port)
        # A bound worker receives connections, so it binds only once it is started.
        self.port = 0 if shares_port else self._bind()

    def waiting_calls(self) -> int:
        """Number of accepted unary calls waiting for a thread."""
        return self._threads.waiting()

    def start(self) -> None:
        """Start answering.

        Raises:
            BindError: The port is in use or not allowed.
        """
        self.port = self.port or self._bind()
        before = set(threading.enumerate())
        self._server.start()
        # The thread that receives calls.
        for thread in set(threading.enumerate()) - before:
            HOME.stay(thread)

    def _interceptors(
        self, access: AccessControl | None, recorder: CallRecorder, settings: ServerSettings
    ) -> list[grpc.ServerInterceptor]:  # type: ignore[type-arg]
        records = CallInterceptor(recorder, self._gate, settings, silent_calls=self._threads.silent)
        if access is None:
            return [records]
        message_seconds = settings.message_timeout_seconds
        return [
            ArrivalInterceptor(access, self._threads, message_seconds=message_seconds),
            records,
        ]

    def _bind(self) -> int:
        try:
            if self._credentials is not None:
                return self._server.add_secure_port(self._address, self._credentials)
            return self._server.add_insecure_port(self._address)
        except RuntimeError as error:
            raise BindError(
                f"cannot listen on {self._address}: the port is in use or not allowed; choose "
                "another one with --grpc-port"
            ) from error

    def set_serving(self, service: str, *, serving: bool) -> None:
        """Set the health of a service, of a model, or of the whole server ("")."""
        self._health.set(service, serving=serving)

    def forget_health(self, model: str) -> None:
        """Remove a model from the health service."""
        self._health.forget(model)

    def say_draining(self) -> None:
        """Report NOT_SERVING to health checks and watchers, and keep accepting calls."""
        self._health.drain()

    def drain(self, timeout_seconds: float) -> int:
        """Refuse new calls with UNAVAILABLE, and wait at most this long for the accepted ones.

        Returns:
            Number of accepted calls that had not ended by then.
        """
        deadline = time.monotonic() + timeout_seconds
        self.say_draining()
        self._gate.close()
        # Tasks start in order: once this one runs, every accepted call has begun.
        begun = threading.Event()
        self._threads.submit(begun.set)
        begun.wait(timeout_seconds)
        self._gate.wait_until_empty(max(deadline - time.monotonic(), 0.0))
        # A stopping gRPC server cancels new calls instead of refusing them, so keep refusing until
        # clients have moved on.
        linger_seconds = min(_MAX_LINGER_SECONDS, max(deadline - time.monotonic(), 0.0))
        self._gate.wait_until_quiet(_QUIET_SECONDS, linger_seconds)
        # Only streams that wait for a message are left.
        cut = len(self._gate.in_progress) + self._threads.waiting()
        stopped = self._server.stop(min(_QUIET_SECONDS, max(deadline - time.monotonic(), 0.0)))
        # gRPC waits forever for streams whose messages it could not parse.
        stopped.wait(_MAX_LINGER_SECONDS)
        self._threads.close()
        return cut


def _connection_age(seconds: float) -> list[tuple[str, int]]:
    """After this age, a connection takes no new calls, and ends with its last one or the grace."""
    if not seconds:
        return []
    return [
        ("grpc.max_connection_age_ms", round(1000 * seconds)),
        ("grpc.max_connection_age_grace_ms", round(1000 * _AGE_GRACE_SECONDS)),
    ]


def _keepalive(settings: ServerSettings) -> list[tuple[str, int]]:
    """How dead connections are noticed, and how often clients may probe."""
    return [
        ("grpc.keepalive_time_ms", round(1000 * settings.keepalive_seconds)),
        ("grpc.keepalive_timeout_ms", round(1000 * settings.keepalive_timeout_seconds)),
        ("grpc.keepalive_permit_without_calls", int(settings.keepalive_without_calls)),
        ("grpc.http2.max_pings_without_data", settings.max_pings_without_data),
        (
            "grpc.http2.min_ping_interval_without_data_ms",
            round(1000 * settings.min_ping_interval_seconds),
        ),
        ("grpc.http2.max_ping_strikes", settings.max_ping_strikes),
    ]
