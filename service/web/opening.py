"""Opens the HTTP port, for a server of one process or the supervisor of several."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry

from convd.service.address import BindError, join_address
from convd.service.settings import ServerSettings
from convd.service.web.origin_policy import OriginPolicy
from convd.service.web.server import HttpServer
from convd.service.web.site import AskConsole, Site
from convd.service.web.trial import MAX_IMAGE_BYTES


def open_http(
    settings: ServerSettings,
    registry: CollectorRegistry,
    unready_reason: Callable[[], str],
    ask_console: AskConsole,
    *,
    stuck_reason: Callable[[], str] = lambda: "",
) -> HttpServer:
    """Bind the port; requests are answered after `start`.

    Args:
        settings: Address and port, and whether there is a console.
        registry: The metrics.
        unready_reason: Returns why the server is not ready; empty if it is.
        ask_console: Answers the requests of the console's page.
        stuck_reason: Returns why the process has to be ended; empty if it need not be.

    Raises:
        BindError: The port is in use or not allowed.
    """
    console = ask_console if settings.console else None
    site = Site(
        OriginPolicy(settings.host, settings.allowed_hosts),
        registry,
        unready_reason,
        stuck_reason,
        console,
    )
    max_body_bytes = MAX_IMAGE_BYTES if settings.console else 0
    try:
        return HttpServer(settings.host, settings.http_port, site, max_body_bytes=max_body_bytes)
    except OSError as error:
        address = join_address(settings.host, settings.http_port)
        raise BindError(
            f"cannot listen on {address}: {error.strerror}; choose another one with --http-port"
        ) from error
