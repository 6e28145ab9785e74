"""The HTTP server under the site: uvicorn's HTTP/1.1, in an event loop and thread of its own."""

import asyncio
import logging
import socket
import threading
from collections.abc import Callable
from email.utils import formatdate
from typing import cast

import uvicorn
from uvicorn.server import ServerState

from convd.runtime.home_core import HOME
from convd.service.web.asgi import AsgiApplication
from convd.service.web.connections import BoundedConnection, close_overdue
from convd.service.web.https import HttpsContext
from convd.service.web.request import MAX_HEAD_BYTES

_LOOK_SECONDS = 1.0
_GRACE_SECONDS = 1.0
_HANDSHAKE_SECONDS = 5.0


class HttpServer:
    """Serves one ASGI application.

    The loop only reads, routes and writes: the application works in threads. So a client that sends
    slowly, or nothing, costs no thread, and a request that is being worked on delays no other.

    Args:
        host: Address to listen on.
        port: Port; 0 picks a free one.
        application: The ASGI application.
        on_stop: Called once the server has stopped.
        tls: Encrypts the connections; None for plain HTTP.

    Raises:
        OSError: The port is in use or not allowed.
    """

    def __init__(
        self,
        host: str,
        port: int,
        application: AsgiApplication,
        on_stop: Callable[[], None] = lambda: None,
        *,
        tls: HttpsContext | None = None,
    ) -> None:
        is_ipv6 = ":" in host
        self._listening = socket.create_server(
            (host, port),
            family=socket.AF_INET6 if is_ipv6 else socket.AF_INET,
            # Like gRPC, accept IPv4 as well when listening on ::.
            dualstack_ipv6=is_ipv6 and socket.has_dualstack_ipv6(),
        )
        # Connections inherit it: without it, the body of an answer waits for the client to
        # acknowledge the head. asyncio sets it only on sockets that name their protocol.
        self._listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.port: int = self._listening.getsockname()[1]
        # Do not log what clients get wrong.
        logging.getLogger("uvicorn").setLevel(logging.ERROR)
        self._config = uvicorn.Config(
            application,
            http=BoundedConnection,
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            h11_max_incomplete_event_size=MAX_HEAD_BYTES,
            # The bounds of connections are stricter.
            timeout_keep_alive=24 * 60 * 60,
        )
        self._config.load()
        self._state = ServerState()
        self._on_stop = on_stop
        self._tls = tls
        self._runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
        self._stopping = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="http-server", daemon=True)

    def start(self) -> None:
        """Start answering."""
        # Made here, so that `stop` finds it however soon it is called.
        self._runner.get_loop()
        self._thread.start()

    def stop(self) -> None:
        """Stop answering."""
        if self._thread.is_alive():
            self._runner.get_loop().call_soon_threadsafe(self._stopping.set)
            self._thread.join()
        self._listening.close()
        self._on_stop()

    def _run(self) -> None:
        HOME.stay()
        with self._runner:
            self._runner.run(self._serve())

    @property
    def connections(self) -> "set[BoundedConnection]":
        """The open connections."""
        return cast("set[BoundedConnection]", self._state.connections)

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(
            lambda: BoundedConnection(self._config, self._state, {}),
            sock=self._listening,
            ssl=self._tls.listening if self._tls else None,
            ssl_handshake_timeout=_HANDSHAKE_SECONDS if self._tls else None,
        )
        while not self._stopping.is_set():
            # Does not disclose the server software.
            self._state.default_headers = [(b"Date", formatdate(usegmt=True).encode())]
            close_overdue(self.connections)
            try:
                await asyncio.wait_for(self._stopping.wait(), _LOOK_SECONDS)
            except TimeoutError:
                continue
        server.close()
        for connection in list(self.connections):
            connection.shutdown()
        if self._state.tasks:
            await asyncio.wait(self._state.tasks, timeout=_GRACE_SECONDS)
        for connection in list(self.connections):
            connection.transport.abort()
        await server.wait_closed()
