"""TLS of the HTTP port: each new connection gets the certificate that is in force then."""

import asyncio
import logging
import ssl
import time

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
        self._authorities_since = 0.0
        self.listening = self._current = self._load()
        # OpenSSL asks at the beginning of each handshake, whether or not a name is given.
        self.listening.sni_callback = self._choose

    def _choose(
        self, connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext
    ) -> int | None:
        if self._files.current is not self._given:
            before, self._given = self._given, self._files.current
            if before.client_authorities != self._given.client_authorities:
                self._authorities_since = time.time()
            # A context cannot be given another certificate without a moment in which its own and
            # the new key do not fit.
            try:
                self._current = self._load()
            # Such as a key that is too small for OpenSSL.
            except OSError:
                logger.warning("the certificate cannot be used for HTTPS", exc_info=True)
        connection.context = self._current
        session = connection.session if connection.session_reused else None
        # The certificate of a resumed session was verified when that began, and is not again.
        if session is not None and session.time <= self._authorities_since:
            return ssl.AlertDescription.ALERT_DESCRIPTION_ACCESS_DENIED
        return None

    def _load(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.verify_mode = self._verify_mode
        if self._verify_mode is not ssl.CERT_NONE:
            # With TLS 1.3, each resumed session would bring the ticket of a newer one.
            context.num_tickets = 0
        self._given.load_into(context)
        return context


def client_certificate(transport: asyncio.Transport) -> PeerCertificate | None:
    """The certificate that a client has shown, verified; None if it has shown none."""
    encrypted = transport.get_extra_info("ssl_object")
    shown = encrypted.getpeercert(binary_form=True) if encrypted is not None else None
    return read_certificate(ssl.DER_cert_to_PEM_cert(shown).encode()) if shown else None
