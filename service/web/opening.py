"""Opens the HTTP port, for a server of one process or the supervisor of several."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry

from service.rpc.server import BindError
from service.settings import ServerSettings
from service.web.console import Console
from service.web.gate import Gate
from service.web.server import HttpServer
from service.web.site import Site
from service.web.trial import MAX_IMAGE_BYTES


def open_http(
    settings: ServerSettings,
    registry: CollectorRegistry,
    unready_reason: Callable[[], str],
    console: Console | None = None,
) -> HttpServer:
    """Open the port; nothing is answered before `start`.

    Args:
        settings: Address and port.
        registry: The metrics.
        unready_reason: Why the server is not ready; empty when it is.
        console: The console; None for none.

    Raises:
        BindError: The port is taken or not allowed.
    """
    site = Site(Gate(settings.host), registry, unready_reason, console)
    max_body_bytes = MAX_IMAGE_BYTES if console is not None else 0
    try:
        return HttpServer(settings.host, settings.http_port, site, max_body_bytes=max_body_bytes)
    except OSError as error:
        raise BindError(
            f"cannot listen on {settings.host}:{settings.http_port}: {error.strerror}; "
            "choose another port with --http-port"
        ) from error
