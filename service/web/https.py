"""TLS of the HTTP port: each new connection gets the certificate that is in force then."""

import asyncio
import logging
import ssl

from convd.service.access.certificates import PeerCertificate, read_certificate
from convd.service.tls import TlsFiles

logger = logging.getLogger(__name__)

CLIENT_CERTIFICATE = "client_certificate"
"""Key of a connection's state under which its client's certificate is found."""


class HttpsContext:
    """A context for HTTPS that follows the files of a certificate.

    Args:
        files: The certificate and key, and the authorities of clients.
        requires_certificate: Whether clients have to show a certificate, where there are
            authorities for them; else they may.

    Attributes:
        listening: What a server listens with.
    """

    def __init__(self, files: TlsFiles, *, requires_certificate: bool) -> None:
        self._verify_mode = ssl.CERT_NONE
        if files.current.client_authorities is not None:
            self._verify_mode = ssl.CERT_REQUIRED if requires_certificate else ssl.CERT_OPTIONAL
        self._files = files
        self._given = files.current
        self.listening = self._current = self._load()
        # OpenSSL asks at the beginning of each handshake, whether or not a name is given.
        self.listening.sni_callback = self._choose

    def _choose(
        self, connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext
    ) -> None:
        if self._files.current is not self._given:
            self._given = self._files.current
            # A context cannot be given another certificate without a moment in which its own and
            # the new key do not fit.
            try:
                self._current = self._load()
            # The files are being changed again: the next change brings another certificate.
            except OSError:
                logger.warning("the certificate cannot be read again", exc_info=True)
        connection.context = self._current

    def _load(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.verify_mode = self._verify_mode
        self._files.load_into(context)
        return context


def client_certificate(transport: asyncio.Transport) -> PeerCertificate | None:
    """The certificate that a client has shown, verified; None if it has shown none."""
    encrypted = transport.get_extra_info("ssl_object")
    shown = encrypted.getpeercert(binary_form=True) if encrypted is not None else None
    return read_certificate(ssl.DER_cert_to_PEM_cert(shown).encode()) if shown else None
