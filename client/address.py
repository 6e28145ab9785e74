"""Addresses of servers, as users write them and as gRPC wants them."""

import ipaddress
import re

DEFAULT_PORT = 8001
DEFAULT_SERVER = f"127.0.0.1:{DEFAULT_PORT}"

_URL = re.compile(r"https?://(?P<rest>.*)")
_GRPC_SCHEME = re.compile(r"(dns|ipv4|ipv6|unix|unix-abstract|vsock|xds):.*")
_HOST_AND_PORT = re.compile(r"(?P<host>\[[^\[\]/]+\]|[^:/\s\[\]]+)(?::(?P<port>\d{1,5}))?")
_LOOPBACK_NAME = "localhost"


def parse_address(text: str) -> str:
    """Make a gRPC target of an address.

    Args:
        text: HOST or HOST:PORT, where HOST is a name, an IPv4 address or an IPv6 address (in
            brackets if a port follows); or a target of gRPC's own, such as `unix:/run/convd`. The
            port is 8001 by default.

    Raises:
        ValueError: It is none of these; the text says what to write.
    """
    text = text.strip()
    url = _URL.fullmatch(text)
    if url is not None:
        address = url["rest"].partition("/")[0] or DEFAULT_SERVER
        raise ValueError(f"{text!r} is a URL: give the gRPC address alone, such as {address}")
    if _GRPC_SCHEME.fullmatch(text):
        return text
    if _is_ipv6(text):
        return f"[{text}]:{DEFAULT_PORT}"
    found = _HOST_AND_PORT.fullmatch(text)
    port = int(found["port"] or DEFAULT_PORT) if found else 0
    if found is None or not 1 <= port <= 65535:
        raise ValueError(f"{text!r} is not an address: write HOST:PORT, such as {DEFAULT_SERVER}")
    return f"{found['host']}:{port}"


def is_loopback(target: str) -> bool:
    """Whether a target is on this machine, so that what is sent to it never leaves it."""
    if target.startswith(("unix:", "unix-abstract:")):
        return True
    host = re.sub(r"^\w+:(///)?", "", target) if _GRPC_SCHEME.fullmatch(target) else target
    host = host.rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == _LOOPBACK_NAME


def _is_ipv6(text: str) -> bool:
    try:
        return ipaddress.ip_address(text).version == 6
    except ValueError:
        return False
