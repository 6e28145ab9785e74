"""Addresses as gRPC, URLs and people write them."""


def join_address(host: str, port: int) -> str:
    """A host and a port in one; an IPv6 address needs brackets, or its end would be the port."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
