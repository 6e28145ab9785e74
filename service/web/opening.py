"""Opens the HTTP port, for a server of one process or the supervisor of several."""

from collections.abc import Callable
from http import HTTPStatus

from prometheus_client import CollectorRegistry

from convd.service.access.control import AccessControl
from convd.service.address import BindError, join_address
from convd.service.settings import ServerSettings
from convd.service.tls import TlsFiles
from convd.service.web import routes
from convd.service.web.admission import Admission
from convd.service.web.https import HttpsContext
from convd.service.web.metrics_page import metrics_page
from convd.service.web.origin_policy import OriginPolicy
from convd.service.web.pages import pages
from convd.service.web.request import Request
from convd.service.web.response import Response, json_response, text
from convd.service.web.server import HttpServer
from convd.service.web.site import Answer, Site


def open_http(
    settings: ServerSettings,
    registry: CollectorRegistry,
    unready_reason: Callable[[], str],
    ask_models: Answer,
    *,
    access: AccessControl | None = None,
    tls: TlsFiles | None = None,
    stuck_reason: Callable[[], str] = lambda: "",
) -> HttpServer:
    """Bind the port; requests are answered after `start`.

    Args:
        settings: Address and port, and whether there is a console.
        registry: The metrics.
        unready_reason: Returns why the server is not ready; empty if it is.
        ask_models: Answers the requests that need a model.
        access: Decides who may do what; None where anyone may do everything.
        tls: Its certificate; None for plain HTTP.
        stuck_reason: Returns why the process has to be ended; empty if it need not be.

    Raises:
        BindError: The port is in use or not allowed.
    """
    own: dict[str, Answer] = {
        "live": _state("live", stuck_reason),
        "ready": _state("ready", unready_reason),
        "metrics": metrics_page(registry),
        "v2_live": _document("live", stuck_reason),
        "v2_ready": _document("ready", unready_reason),
    }
    answers = {route: own[route.action] for route in (*routes.SERVER, *routes.HEALTH)}
    answers |= dict.fromkeys((*routes.CLASSIFY, *routes.OPEN_INFERENCE), ask_models)
    if settings.console:
        answers |= dict.fromkeys(routes.PAGES, pages())
        answers |= dict.fromkeys(routes.CONSOLE, ask_models)
    site = Site(
        OriginPolicy(settings.host, settings.allowed_hosts),
        answers,
        admission=Admission(answers, access),
        inference_threads=settings.http_threads,
        max_message_bytes=settings.max_message_bytes,
    )
    try:
        return HttpServer(
            settings.host,
            settings.http_port,
            site,
            on_stop=site.close,
            # Where there are principals, the table says which paths are open.
            tls=HttpsContext(tls, requires_certificate=access is None) if tls else None,
        )
    except OSError as error:
        address = join_address(settings.host, settings.http_port)
        raise BindError(
            f"cannot listen on {address}: {error.strerror}; choose another one with --http-port"
        ) from error


def _state(state: str, why_not: Callable[[], str]) -> Answer:
    def answer(request: Request) -> Response:
        reason = why_not()
        if reason:
            return text(_not(state, reason, request), HTTPStatus.SERVICE_UNAVAILABLE)
        return text(state)

    return answer


def _document(state: str, why_not: Callable[[], str]) -> Answer:
    def answer(request: Request) -> Response:
        reason = why_not()
        if reason:
            document = {state: False, "error": _not(state, reason, request)}
            return json_response(document, HTTPStatus.SERVICE_UNAVAILABLE)
        return json_response({state: True})

    return answer


def _not(state: str, reason: str, request: Request) -> str:
    return f"not {state}: {reason}" if request.may_know_reasons else f"not {state}"
