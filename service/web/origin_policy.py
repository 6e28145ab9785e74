"""Which requests the HTTP port accepts from a browser: by host name and by the page they are from.

A browser sends requests wherever a page tells it to, and lets the page read the answer if both have
one host name. So a page must come from here, and its name must be one that nobody else can give to
this machine (DNS rebinding).
"""

import ipaddress
import re
import socket
from collections.abc import Collection, Mapping

from convd.service.errors import PermissionDeniedError
from convd.service.quoting import quote

_HOST = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]+))(?::[0-9]{1,5})?")
_WILDCARDS = ("", "0.0.0.0", "::")  # noqa: S104


class OriginPolicy:
    """Refuses requests that a foreign web page makes a visitor's browser send.

    Accepted host names are IP addresses, which no name server can give away; localhost; the name
    that the server listens on, or the machine's own if it listens on all interfaces; and those that
    the operator allows.

    Args:
        host: The address or name that the server listens on.
        allowed_hosts: Further host names; one that begins with a dot includes all names below it.
    """

    def __init__(self, host: str, allowed_hosts: Collection[str] = ()) -> None:
        own = socket.gethostname() if host in _WILDCARDS else host
        names = {name.lower().rstrip(".") for name in (own, *allowed_hosts)}
        self._names = frozenset(names)
        self._suffixes = tuple(name for name in names if name.startswith("."))

    def check(self, method: str, headers: Mapping[str, str]) -> None:
        """Accept or refuse a request.

        Args:
            method: Its method, such as GET.
            headers: Its headers by name in lower case.

        Raises:
            PermissionDeniedError: The request is refused.
        """
        host = headers.get("host")
        # Browsers always name the host; probes that speak HTTP/1.0 do not.
        if host is not None and not self._is_ours(host):
            raise PermissionDeniedError(
                f"this server does not answer to the host name {quote(host)}: use its IP address, "
                "or start it with --allowed-host and the name"
            )
        if _comes_from_another_site(method, headers):
            raise PermissionDeniedError("pages of other sites may not send requests to this server")

    def _is_ours(self, host: str) -> bool:
        match = _HOST.fullmatch(host)
        if match is None:
            return False
        address, name = match.groups()
        name = (name or "").lower().rstrip(".")
        if name == "localhost" or name.endswith((".localhost", *self._suffixes)):
            return True
        return name in self._names or _is_address(address or name)


def _comes_from_another_site(method: str, headers: Mapping[str, str]) -> bool:
    """Whether a page of another site sends a request; programs send none of these headers."""
    reads = method in ("GET", "HEAD")
    site = headers.get("sec-fetch-site")
    if site is not None:
        # A link on another page may lead here; nothing else may come from there.
        is_link = reads and headers.get("sec-fetch-mode") == "navigate"
        return site not in ("same-origin", "none") and not (
            is_link and headers.get("sec-fetch-dest") == "document"
        )
    origin = headers.get("origin")
    return origin is not None and origin.partition("://")[2] != headers.get("host")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
