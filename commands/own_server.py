"""How a check beside a server, as in its container, trusts the certificate of that server."""

import os
from collections.abc import Mapping
from dataclasses import replace

from cryptography import x509

from convd.client.address import is_loopback
from convd.client.connection import Connection, Tls


def trust_own_server(
    connection: Connection, environment: Mapping[str, str] = os.environ
) -> Connection:
    """Give a connection to this machine the TLS that this environment's server has.

    A server that asks for client certificates is shown its own, which its authorities may have
    signed too. A connection that has TLS already, or that leads elsewhere, stays as it is.

    Args:
        connection: The connection.
        environment: Variables, of which those of `convd serve` count.

    Raises:
        OSError: A file that they name cannot be read.
        ValueError: The certificate cannot be read.
    """
    certificate = environment.get("CONVD_TLS_CERTIFICATE")
    if not certificate or connection.tls is not None or not is_loopback(connection.target):
        return connection
    own = environment.get("CONVD_TLS_KEY") if environment.get("CONVD_TLS_CLIENT_CA") else None
    tls = Tls.from_files(certificate, certificate if own else None, own)
    return replace(connection, tls=replace(tls, server_name=_first_name(tls.ca or b"")))


def _first_name(pem: bytes) -> str | None:
    """A host name or address that a certificate is for; None if it names none."""
    certificate = x509.load_pem_x509_certificates(pem)[0]
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return None
    hosts = names.get_values_for_type(x509.DNSName)
    addresses = names.get_values_for_type(x509.IPAddress)
    # An authority's name for any host below a domain needs a host there.
    found = [host.replace("*", "host", 1) for host in hosts] + [str(one) for one in addresses]
    return found[0] if found else None
