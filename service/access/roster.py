"""The roster: every principal that the server knows, found by token or by certificate."""

import logging
import time
from collections.abc import Callable
from pathlib import Path

from convd.service.access.certificates import PeerCertificate
from convd.service.access.principal import Limits, Principal
from convd.service.access.principals_file import (
    PrincipalsFile,
    PrincipalsFileError,
    read_principals,
    token_hash,
)
from convd.service.access.scopes import Grants
from convd.service.followed_files import FollowedFiles

logger = logging.getLogger(__name__)

_MAX_TOKEN_CHARACTERS = 256


class Roster:
    """The principals of one reading of the file.

    Args:
        content: The file.
        workers: Number of processes among which each principal's limits are divided.
        before: The roster of the reading before. Its principals go on, also those of calls in
            progress, with what they have used of their limits if these are still the same; those
            that the file has no longer may do nothing from now on.
    """

    def __init__(
        self, content: PrincipalsFile, *, workers: int = 1, before: "Roster | None" = None
    ) -> None:
        self._by_name: dict[str, Principal] = {}
        self._by_token: dict[bytes, tuple[Principal, float]] = {}
        self._by_certificate: dict[str, Principal] = {}
        for entry in content.principals:
            limits = entry.limits.divided(workers)
            principal = before._by_name.get(entry.name) if before else None
            if principal is None:
                principal = Principal(entry.name, Grants.parse(entry.scopes), limits)
            elif principal.limits != limits:
                principal.limit(limits)
            principal.grants = Grants.parse(entry.scopes)
            self._by_name[entry.name] = principal
            for token in entry.tokens:
                expires_at = token.expires.timestamp() if token.expires else float("inf")
                self._by_token[bytes.fromhex(token.sha256)] = principal, expires_at
            for name in entry.certificates:
                self._by_certificate[name] = principal
        # Streams in progress go on with the principal that they began with.
        for name, gone in before._by_name.items() if before else ():
            if name not in self._by_name:
                gone.grants = Grants({})

    @property
    def knows_certificates(self) -> bool:
        """Whether a principal may show a certificate in place of a token."""
        return bool(self._by_certificate)

    def named(self, name: str) -> Principal:
        """The principal of a name; one that is unknown here has that name, and may do nothing."""
        return self._by_name.get(name) or Principal(name, Grants({}), Limits())

    def of_token(self, token: str) -> Principal | None:
        """Find the principal of a valid token.

        The token itself is compared with nothing. Its SHA-256 is looked up, and how far a wrong
        hash agrees with one that is known says nothing of the token: time leaks nothing that helps
        to guess it.
        """
        if len(token) > _MAX_TOKEN_CHARACTERS:
            return None
        principal, expires_at = self._by_token.get(token_hash(token), (None, 0.0))
        return principal if time.time() < expires_at else None

    def of_certificate(self, certificate: PeerCertificate) -> Principal | None:
        """Find the principal of a certificate that TLS has verified."""
        if not certificate.is_valid_at(time.time()):
            return None
        for name in certificate.names:
            principal = self._by_certificate.get(name)
            if principal is not None:
                return principal
        return None


class FollowedRoster:
    """The roster of a file, read again whenever the file changes.

    A file that cannot be read, or not be understood, leaves the last good roster in force.

    Args:
        path: The file.
        workers: Number of processes among which each principal's limits are divided.
        on_read: Called after each attempt to read it again, with whether that failed.

    Attributes:
        current: The roster in force.

    Raises:
        PrincipalsFileError: The file cannot be used from the start.
    """

    def __init__(
        self, path: Path, *, workers: int = 1, on_read: Callable[[bool], None] = lambda _: None
    ) -> None:
        self._path = path
        self._workers = workers
        self._on_read = on_read
        self._followed = FollowedFiles([path], self._reload)
        self.current = Roster(read_principals(path), workers=workers)
        self._followed.start()

    def close(self) -> None:
        """Stop following the file."""
        self._followed.stop()

    def _reload(self) -> bool:
        try:
            content = read_principals(self._path)
        except PrincipalsFileError as error:
            logger.error("%s; the principals that were read before stay in force", error)
            self._on_read(True)
            return False
        self.current = Roster(content, workers=self._workers, before=self.current)
        logger.info("read %d principals from %s", len(content.principals), self._path)
        self._on_read(False)
        return True
