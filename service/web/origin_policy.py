"""Which requests the HTTP side accepts from a browser, by host name and origin."""

import ipaddress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from convd.service.errors import PermissionDeniedError
from convd.service.quoting import quote

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment


class OriginPolicy:
    """Refuses what a foreign web page makes a visitor's browser send.

    Authentication belongs into `check`: it sees every request of the HTTP side, and refuses by
    raising.

    Args:
        host: Address that the server listens on.
    """

    def __init__(self, host: str) -> None:
        self._only_loopback = _is_loopback(host)

    def check(self, environ: "WSGIEnvironment") -> None:
        """Let a request in, or not.

        Raises:
            PermissionDeniedError: It may not enter.
        """
        if self._only_loopback:
            _refuse_rebound_names(environ)
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            _refuse_other_sites(environ)


def _refuse_rebound_names(environ: "WSGIEnvironment") -> None:
    """Refuse names that a foreign page's owner may have bound to this machine (DNS rebinding)."""
    host = environ.get("HTTP_HOST", "")
    if not _is_loopback(_host_name(host)):
        raise PermissionDeniedError(
            f"this server listens on loopback only and answers to localhost, not to {quote(host)}: "
            "let a proxy in front of it send 'Host: localhost', or listen elsewhere with --host"
        )


def _refuse_other_sites(environ: "WSGIEnvironment") -> None:
    """Refuse what a page of another site posts; programs send neither header."""
    site = environ.get("HTTP_SEC_FETCH_SITE")
    if site is not None:
        foreign = site not in ("same-origin", "none")
    else:
        origin = environ.get("HTTP_ORIGIN")
        foreign = origin is not None and urlsplit(origin).netloc != environ.get("HTTP_HOST")
    if foreign:
        raise PermissionDeniedError("a page of another site may not post to this server")


def _host_name(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
