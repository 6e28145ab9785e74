"""Decides by host name and origin which requests the HTTP port accepts from a browser."""

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from convd.service.address import is_loopback
from convd.service.errors import PermissionDeniedError
from convd.service.quoting import quote

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment


class OriginPolicy:
    """Refuses requests that a foreign web page makes a visitor's browser send.

    Authentication belongs in `check`, which sees every HTTP request and refuses it by raising.

    Args:
        host: The address that the server listens on.
    """

    def __init__(self, host: str) -> None:
        self._only_loopback = is_loopback(host)

    def check(self, environ: "WSGIEnvironment") -> None:
        """Accept or refuse a request.

        Raises:
            PermissionDeniedError: The request is refused.
        """
        if self._only_loopback:
            _refuse_rebound_names(environ)
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            _refuse_other_sites(environ)


def _refuse_rebound_names(environ: "WSGIEnvironment") -> None:
    """Refuse host names that an attacker may have bound to this machine (DNS rebinding)."""
    host = environ.get("HTTP_HOST", "")
    if not is_loopback(_host_name(host)):
        raise PermissionDeniedError(
            f"this server listens on loopback and accepts the host name localhost, not "
            f"{quote(host)}: make the proxy in front of it send 'Host: localhost', or listen on "
            "another address with --host"
        )


def _refuse_other_sites(environ: "WSGIEnvironment") -> None:
    """Refuse posts from pages of other sites; programs send neither header."""
    site = environ.get("HTTP_SEC_FETCH_SITE")
    if site is not None:
        foreign = site not in ("same-origin", "none")
    else:
        origin = environ.get("HTTP_ORIGIN")
        foreign = origin is not None and urlsplit(origin).netloc != environ.get("HTTP_HOST")
    if foreign:
        raise PermissionDeniedError("pages of other sites may not post to this server")


def _host_name(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""
