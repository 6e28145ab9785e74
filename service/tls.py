"""The server's certificate and key: read, checked, and read again when they change."""

import logging
import os
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

from convd.service.followed_files import FollowedFiles
from convd.service.settings import ServerSettings, SettingsError

logger = logging.getLogger(__name__)

_DAY_SECONDS = 86_400.0


class TlsMaterial(NamedTuple):
    """What a TLS server needs, in PEM.

    Attributes:
        chain: The certificate, followed by those of intermediate authorities.
        key: Its private key.
        client_authorities: The authorities that sign clients' certificates; None if clients need no
            certificate.
        expires_at: When the certificate ends to be valid, in seconds since 1970.
    """

    chain: bytes
    key: bytes
    client_authorities: bytes | None
    expires_at: float

    def load_into(self, context: ssl.SSLContext) -> None:
        """Give a new context the certificate, its key and the authorities of clients."""
        # Python's ssl reads these from files only, and the ones on disk may be others by now.
        with os.fdopen(os.memfd_create("certificate"), "wb") as file:
            file.write(self.key.rstrip() + b"\n" + self.chain)
            file.flush()
            context.load_cert_chain(f"/proc/self/fd/{file.fileno()}")
        if self.client_authorities is not None:
            context.load_verify_locations(cadata=self.client_authorities.decode())


class TlsFiles:
    """The files of the settings, followed: a pair that does not fit leaves the last good one.

    Args:
        certificate: The certificate chain.
        key: The private key.
        client_authorities: The authorities of clients; None if clients need no certificate.
        on_read: Called with the end of the certificate's validity, in seconds since 1970, at first
            and after each change.

    Attributes:
        current: What is in force.

    Raises:
        SettingsError: The files cannot be used from the start.
    """

    def __init__(
        self,
        certificate: Path,
        key: Path,
        client_authorities: Path | None,
        on_read: Callable[[float], None] = lambda _: None,
    ) -> None:
        self._certificate = certificate
        self._key = key
        self._client_authorities = client_authorities
        self._on_read = on_read
        files = [certificate, key, *([client_authorities] if client_authorities else [])]
        self._followed = FollowedFiles(files, self._reload)
        self.current = self._read()
        on_read(self.current.expires_at)
        self._followed.start()

    @classmethod
    def of(
        cls, settings: ServerSettings, on_read: Callable[[float], None] = lambda _: None
    ) -> "TlsFiles | None":
        """The files that the settings name; None for a server without TLS."""
        if settings.tls_certificate is None or settings.tls_key is None:
            return None
        return cls(settings.tls_certificate, settings.tls_key, settings.tls_client_ca, on_read)

    def close(self) -> None:
        """Stop following the files."""
        self._followed.stop()

    def _reload(self) -> bool:
        try:
            self.current = self._read()
        except SettingsError as error:
            logger.error("%s; the certificate that was read before stays in force", error)
            return False
        logger.info("read a new certificate from %s", self._certificate)
        self._on_read(self.current.expires_at)
        return True

    def _read(self) -> TlsMaterial:
        chain = _read("tls_certificate", self._certificate)
        key = _read("tls_key", self._key)
        authorities = None
        if self._client_authorities is not None:
            authorities = _read("tls_client_ca", self._client_authorities)
            _certificate("tls_client_ca", self._client_authorities, authorities)
        certificate = _certificate("tls_certificate", self._certificate, chain)
        try:
            public_key = load_pem_private_key(key, password=None).public_key()
        except (ValueError, TypeError) as error:
            raise SettingsError(
                f"tls_key: {self._key} is not a private key in PEM without a password"
            ) from error
        encoding = Encoding.DER, PublicFormat.SubjectPublicKeyInfo
        if public_key.public_bytes(*encoding) != certificate.public_key().public_bytes(*encoding):
            raise SettingsError(
                f"tls_key: {self._key} is not the key of the certificate {self._certificate}"
            )
        expires_at = certificate.not_valid_after_utc.timestamp()
        if expires_at - time.time() < _DAY_SECONDS:
            logger.warning(
                "the certificate %s is valid until %s only",
                self._certificate,
                certificate.not_valid_after_utc,
            )
        return TlsMaterial(chain, key, authorities, expires_at)


def _read(setting: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SettingsError(f"{setting}: {path} cannot be read: {error.strerror}") from error


def _certificate(setting: str, path: Path, pem: bytes) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificates(pem)[0]
    except ValueError as error:
        raise SettingsError(f"{setting}: {path} has no certificate in PEM") from error
