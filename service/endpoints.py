"""The HTTP side: metrics for Prometheus, liveness and readiness for whoever runs the server."""

import threading
from collections.abc import Callable, Iterable
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _QuietHandler(WSGIRequestHandler):
    # A probe that connects and says nothing must not hold a thread for ever.
    timeout = 10

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002, ANN401
        """Probes every few seconds would bury the log."""


class HttpEndpoints:
    """Serves `/metrics`, `/livez` and `/readyz`.

    Args:
        host: Address to listen on.
        port: Port; 0 takes a free one.
        registry: The metrics.
        unready_reason: Why the server is not ready; empty when it is.

    Raises:
        OSError: The port is taken or not allowed.
    """

    def __init__(
        self,
        host: str,
        port: int,
        registry: CollectorRegistry,
        unready_reason: Callable[[], str],
    ) -> None:
        self._metrics: WSGIApplication = make_wsgi_app(registry)
        self._unready_reason = unready_reason
        self._server = make_server(host, port, self._answer, _Server, _QuietHandler)
        self.port = self._server.server_port
        self._thread = threading.Thread(
            target=self._server.serve_forever, name="http-endpoints", daemon=True
        )

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def stop(self) -> None:
        """Stop answering."""
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, environ: "WSGIEnvironment", start: "StartResponse") -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if path == "/metrics":
            return self._metrics(environ, start)
        if path == "/livez":
            return _text(start, "200 OK", "live")
        if path == "/readyz":
            reason = self._unready_reason()
            if reason:
                return _text(start, "503 Service Unavailable", f"not ready: {reason}")
            return _text(start, "200 OK", "ready")
        return _text(start, "404 Not Found", "here are /metrics, /livez and /readyz")


def _text(start: "StartResponse", status: str, text: str) -> Iterable[bytes]:
    start(status, [("Content-Type", "text/plain; charset=utf-8")])
    return [text.encode() + b"\n"]
