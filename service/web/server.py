"""The HTTP server under the site: waitress, with its limits."""

import contextlib
import logging
import socket
import threading
import time
from typing import TYPE_CHECKING

from waitress import wasyncore
from waitress.server import create_server

from convd.service.web.connections import MAX_CONNECTIONS, ConnectionBounds

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

# More than the number of concurrent trials, so that a probe always finds a thread.
_THREADS = 8
_MAX_HEADER_BYTES = 16 * 1024
_IDLE_SECONDS = 20
_LOOK_SECONDS = 1.0


class HttpServer:
    """Serves one WSGI application.

    Requests are read without a thread each, so a client that sends slowly, or nothing, does not
    delay the others. Bodies stay in memory, since a container may have a read-only file system.

    Args:
        host: Address to listen on.
        port: Port; 0 picks a free one.
        application: The WSGI application.
        max_body_bytes: Maximum size of a request's body; a larger one gets 413.

    Raises:
        OSError: The port is in use or not allowed.
    """

    def __init__(
        self, host: str, port: int, application: "WSGIApplication", *, max_body_bytes: int
    ) -> None:
        is_ipv6 = ":" in host
        listening = socket.create_server(
            (host, port),
            family=socket.AF_INET6 if is_ipv6 else socket.AF_INET,
            # Like gRPC, accept IPv4 as well when listening on ::.
            dualstack_ipv6=is_ipv6 and socket.has_dualstack_ipv6(),
        )
        self.port: int = listening.getsockname()[1]
        self._sockets: dict[int, object] = {}
        self._server = create_server(
            application,
            map=self._sockets,
            sockets=[listening],
            threads=_THREADS,
            connection_limit=MAX_CONNECTIONS,
            channel_timeout=_IDLE_SECONDS,
            cleanup_interval=_IDLE_SECONDS // 2,
            max_request_header_size=_MAX_HEADER_BYTES,
            # waitress refuses bodies of exactly this size too.
            max_request_body_size=max_body_bytes + 1,
            inbuf_overflow=max_body_bytes + 1,
            outbuf_overflow=64 * 1024 * 1024,
            # Do not disclose the server software.
            ident=None,
        )
        # Do not log clients that hang up early, or a queue during bursts of scrapes.
        logging.getLogger("waitress").setLevel(logging.ERROR)
        self._bounds = ConnectionBounds()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="http-server", daemon=True)

    def start(self) -> None:
        """Start answering."""
        self._thread.start()

    def stop(self) -> None:
        """Stop answering."""
        self._stopping.set()
        self._server.pull_trigger()
        if self._thread.is_alive():
            self._thread.join()
        else:
            self._close()

    def _serve(self) -> None:
        looked_at = 0.0
        while not self._stopping.is_set():
            wasyncore.loop(timeout=1.0, use_poll=True, map=self._sockets, count=1)
            now = time.monotonic()
            if now - looked_at > _LOOK_SECONDS or len(self._sockets) > MAX_CONNECTIONS // 2:
                looked_at = now
                self._bounds.enforce(self._server.active_channels.values())
        self._close()

    def _close(self) -> None:
        self._server.task_dispatcher.shutdown()
        with contextlib.suppress(OSError):
            wasyncore.close_all(self._sockets)
