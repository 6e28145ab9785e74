"""The addresses that the server listens on."""

import ipaddress
import socket
from typing import Any, NamedTuple


class BindError(Exception):
    """A port is in use, or the system does not allow the server to listen on it."""


class Listening(NamedTuple):
    """Where a server could listen.

    Attributes:
        family: Of the address.
        kind: Of the socket.
        protocol: Of the socket.
        address: The address with its port, which is a free one where none was named.
    """

    family: socket.AddressFamily
    kind: socket.SocketKind
    protocol: int
    address: Any


def try_port(host: str, port: int) -> Listening:
    """Find out whether a server could listen, which nobody else may do there.

    Raises:
        OSError: The port is in use or not allowed, or there is no such host.
    """
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    # Without SO_REUSEPORT, which would hide that another server uses the port.
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(address)
        return Listening(family, kind, protocol, probe.getsockname())


def join_address(host: str, port: int) -> str:
    """Join a host and a port. An IPv6 address gets brackets, which tell its end from the port."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_loopback(host: str) -> bool:
    """Whether a host's name or address is this machine only."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
