"""`grpc.health.v1`: the health of the server, of each service and of each model."""

import logging
import queue
import threading
import time
from collections.abc import Callable

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

logger = logging.getLogger(__name__)

_LOOK_SECONDS = 1.0

_Response = health_pb2.HealthCheckResponse
_Send = Callable[[object], None]


class HealthServicer(health_pb2_grpc.HealthServicer):  # type: ignore[misc]
    """Answers checks, and notifies watchers of every change.

    Unlike the servicer that comes with gRPC, it can forget a removed model, bounds the watches, and
    ends them when the server drains, so that a watcher does not delay the exit.

    Args:
        max_watches: Maximum watches at the same time.
        watch_seconds: How long a watch lasts.
    """

    def __init__(self, *, max_watches: int, watch_seconds: float) -> None:
        self._max_watches = max_watches
        self._watch_seconds = watch_seconds
        self._lock = threading.Lock()
        self._serving: dict[str, bool] = {}
        # What each watcher watches, and until when, the oldest first.
        self._watches: dict[_Send, tuple[str, float]] = {}
        self._draining = False
        self._messages: queue.SimpleQueue[tuple[_Send, object]] = queue.SimpleQueue()
        # Sending to a watcher that does not read blocks, and must not block the lifecycle.
        threading.Thread(target=self._send_all, name="health-watch", daemon=True).start()

    def Check(  # noqa: N802
        self, request: health_pb2.HealthCheckRequest, context: grpc.ServicerContext
    ) -> health_pb2.HealthCheckResponse:
        """Status of the server (empty name), a service or a model."""
        with self._lock:
            status = self._status(request.service)
        if status == _Response.SERVICE_UNKNOWN:
            context.abort(grpc.StatusCode.NOT_FOUND, "there is no service or model with this name")
        return _Response(status=status)

    def List(  # noqa: N802
        self,
        request: health_pb2.HealthListRequest,  # noqa: ARG002
        context: grpc.ServicerContext,  # noqa: ARG002
    ) -> health_pb2.HealthListResponse:
        """Status of the server and of every service and model."""
        with self._lock:
            statuses = {name: _Response(status=self._status(name)) for name in self._serving}
        return health_pb2.HealthListResponse(statuses=statuses)

    def Watch(  # noqa: N802
        self,
        request: health_pb2.HealthCheckRequest,
        context: grpc.ServicerContext,
        send_response_callback: _Send,
    ) -> None:
        """The current status, and every later change."""
        send = send_response_callback
        with self._lock:
            if len(self._watches) >= self._max_watches:
                context.abort(
                    grpc.StatusCode.RESOURCE_EXHAUSTED,
                    f"{self._max_watches} health watches are already open (--max-health-watches): "
                    "share one, or use Check",
                )
            self._messages.put((send, _Response(status=self._status(request.service))))
            if self._draining:
                self._messages.put((send, None))
                return
            self._watches[send] = request.service, time.monotonic() + self._watch_seconds
        if not context.add_callback(lambda: self._leave(send)):
            self._leave(send)

    # gRPC's marker for methods that answer by callback and do not hold a thread meanwhile.
    Watch.experimental_non_blocking = True  # type: ignore[attr-defined]

    def set(self, service: str, *, serving: bool) -> None:
        """Set whether a service or model is serving, and notify its watchers."""
        self._change(service, serving)

    def forget(self, service: str) -> None:
        """Remove a model, and notify its watchers."""
        self._change(service, None)

    def drain(self) -> None:
        """Report NOT_SERVING for everything from now on, and end all watches."""
        with self._lock:
            self._draining = True
            for send, (service, _) in self._watches.items():
                self._messages.put((send, _Response(status=self._status(service))))
                self._messages.put((send, None))
            self._watches.clear()

    def _change(self, service: str, serving: bool | None) -> None:
        with self._lock:
            before = self._status(service)
            if serving is None:
                self._serving.pop(service, None)
            else:
                self._serving[service] = serving
            status = self._status(service)
            if status != before:
                for send, (watched, _) in self._watches.items():
                    if watched == service:
                        self._messages.put((send, _Response(status=status)))

    def _status(self, service: str) -> int:
        if service not in self._serving:
            return int(_Response.SERVICE_UNKNOWN)
        serving = self._serving[service] and not self._draining
        return int(_Response.SERVING if serving else _Response.NOT_SERVING)

    def _leave(self, send: _Send) -> None:
        with self._lock:
            self._watches.pop(send, None)
        self._messages.put((send, None))

    def _end_old(self) -> None:
        now = time.monotonic()
        with self._lock:
            for send, (_, until) in list(self._watches.items()):
                if until > now:
                    return
                del self._watches[send]
                self._messages.put((send, None))

    def _send_all(self) -> None:
        while True:
            self._end_old()
            try:
                send, message = self._messages.get(timeout=_LOOK_SECONDS)
                send(message)
            except queue.Empty:
                continue
            # One watcher that has gone must not end the others.
            except Exception:
                logger.debug("a health watcher could not be notified", exc_info=True)
