"""Addresses that the server listens on."""


class BindError(Exception):
    """The server cannot listen on a port: it is taken, or the system does not allow it."""


def join_address(host: str, port: int) -> str:
    """Join a host and a port; an IPv6 address gets brackets, or its end would be the port."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
