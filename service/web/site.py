"""The site: routes the paths of the HTTP port."""

import logging
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, make_wsgi_app

from convd.service.errors import PermissionDeniedError
from convd.service.web.console import API, CLASSIFY_PATH
from convd.service.web.origin_policy import OriginPolicy
from convd.service.web.pages import read_pages
from convd.service.web.request import Request
from convd.service.web.response import Response, text, with_security_headers

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

logger = logging.getLogger(__name__)

AskConsole = Callable[[Request], Response]


class Site:
    """A WSGI application with `/metrics`, `/livez`, `/readyz` and optionally the console at `/`.

    Args:
        origin_policy: Decides which requests to accept.
        registry: The metrics.
        unready_reason: Returns why the server is not ready; empty if it is.
        stuck_reason: Returns why the process has to be ended; empty if it need not be.
        ask_console: Answers the requests of the console's page; None for no console.
    """

    def __init__(
        self,
        origin_policy: OriginPolicy,
        registry: CollectorRegistry,
        unready_reason: Callable[[], str],
        stuck_reason: Callable[[], str],
        ask_console: AskConsole | None,
    ) -> None:
        self._origin_policy = origin_policy
        self._metrics: WSGIApplication = make_wsgi_app(registry)
        self._unready_reason = unready_reason
        self._stuck_reason = stuck_reason
        self._ask_console = ask_console
        self._pages = read_pages() if ask_console else {}

    def __call__(self, environ: "WSGIEnvironment", start: "StartResponse") -> Iterable[bytes]:
        """Answer one request."""
        try:
            self._origin_policy.check(environ["REQUEST_METHOD"], _browser_headers(environ))
            if environ["PATH_INFO"] == "/metrics" and environ["REQUEST_METHOD"] == "GET":
                return self._metrics(environ, with_security_headers(start))
            response = self._answer(environ)
        except PermissionDeniedError as error:
            response = text(str(error), HTTPStatus.FORBIDDEN)
        # The cause of an unexpected error is for the log only.
        except Exception:
            logger.exception("%s %s failed", environ["REQUEST_METHOD"], environ["PATH_INFO"])
            response = text(
                "internal error; the server's log has the cause", HTTPStatus.INTERNAL_SERVER_ERROR
            )
        return response.send(start, with_body=environ["REQUEST_METHOD"] != "HEAD")

    def _answer(self, environ: "WSGIEnvironment") -> Response:
        path = environ["PATH_INFO"]
        allowed = ("POST",) if path == CLASSIFY_PATH else ("GET", "HEAD")
        if environ["REQUEST_METHOD"] not in allowed:
            refusal = f"{path} accepts only {' or '.join(allowed)}"
            return Response(
                f"{refusal}\n".encode(),
                "text/plain; charset=utf-8",
                HTTPStatus.METHOD_NOT_ALLOWED,
                (("Allow", ", ".join(allowed)),),
            )
        if path == "/livez":
            return _state("live", self._stuck_reason())
        if path == "/readyz":
            return _state("ready", self._unready_reason())
        if path in self._pages:
            return self._pages[path]
        if self._ask_console is not None and path.startswith(API):
            return self._ask_console(Request.read(environ))
        there = "/, /metrics" if self._ask_console else "/metrics"
        return text(
            f"there is nothing at this path; try {there}, /livez or /readyz", HTTPStatus.NOT_FOUND
        )


def _browser_headers(environ: "WSGIEnvironment") -> dict[str, str]:
    names = ("host", "origin", "sec-fetch-site", "sec-fetch-mode", "sec-fetch-dest")
    keys = {name: f"HTTP_{name.upper().replace('-', '_')}" for name in names}
    return {name: environ[key] for name, key in keys.items() if key in environ}


def _state(state: str, why_not: str) -> Response:
    if why_not:
        return text(f"not {state}: {why_not}", HTTPStatus.SERVICE_UNAVAILABLE)
    return text(state)
