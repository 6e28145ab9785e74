"""Client certificates: by which names a verified one can be a principal's."""

import logging
from functools import lru_cache
from typing import NamedTuple

from cryptography import x509

logger = logging.getLogger(__name__)


class PeerCertificate(NamedTuple):
    """What a verified certificate says.

    Attributes:
        names: Its URIs (a SPIFFE id is one), then its subject as in RFC 4514.
        not_before: When its validity begins, in seconds since 1970.
        not_after: When it ends.
    """

    names: tuple[str, ...]
    not_before: float
    not_after: float

    def is_valid_at(self, moment: float) -> bool:
        """Whether it is valid; TLS looks when a connection begins, which may last for long."""
        return self.not_before <= moment <= self.not_after


@lru_cache(maxsize=1024)
def read_certificate(pem: bytes) -> PeerCertificate:
    """Read a certificate in PEM; one that cannot be read has no names, and is nobody's."""
    try:
        return _read(pem)
    # Each part of a certificate has errors of its own.
    except Exception:
        logger.warning("a client's certificate cannot be read", exc_info=True)
        return PeerCertificate((), 0.0, 0.0)


def _read(pem: bytes) -> PeerCertificate:
    certificate = x509.load_pem_x509_certificate(pem)
    try:
        alternative = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        uris = alternative.value.get_values_for_type(x509.UniformResourceIdentifier)
    except x509.ExtensionNotFound:
        uris = []
    subject = certificate.subject.rfc4514_string()
    return PeerCertificate(
        (*uris, subject) if subject else tuple(uris),
        certificate.not_valid_before_utc.timestamp(),
        certificate.not_valid_after_utc.timestamp(),
    )
