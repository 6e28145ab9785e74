"""The addresses that the server listens on."""

import ipaddress


class BindError(Exception):
    """A port is in use, or the system does not allow the server to listen on it."""


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
