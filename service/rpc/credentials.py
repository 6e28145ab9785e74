"""TLS of the gRPC port: each new connection gets the certificate that is in force then."""

from collections.abc import Callable
from typing import cast

import grpc

from convd.service.tls import TlsFiles, TlsMaterial


def server_credentials(files: TlsFiles) -> grpc.ServerCredentials:
    """Credentials that follow the files; connections that exist go on with what they began with.

    gRPC itself accepts TLS 1.2 and 1.3 only.
    """
    first = given = files.current

    def changed() -> grpc.ServerCertificateConfiguration | None:
        # gRPC calls this before each handshake.
        nonlocal given
        current = files.current
        if current is given:
            return None
        given = current
        return _configuration(current)

    return grpc.dynamic_ssl_server_credentials(
        _configuration(first),
        # The stubs do not know that None stands for no change.
        cast("Callable[[], grpc.ServerCertificateConfiguration]", changed),
        require_client_authentication=first.client_authorities is not None,
    )


def _configuration(material: TlsMaterial) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration(
        [(material.key, material.chain)], root_certificates=material.client_authorities
    )
