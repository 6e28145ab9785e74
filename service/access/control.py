"""Access control: lets a call in when it arrives, and looks at each of its messages."""

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from convd.service.access.certificates import PeerCertificate
from convd.service.access.principal import ANONYMOUS, Principal
from convd.service.access.principals_file import token_hash, token_id
from convd.service.access.roster import FollowedRoster
from convd.service.access.table import Address, Row
from convd.service.errors import (
    PermissionDeniedError,
    ServiceError,
    UnauthenticatedError,
)
from convd.service.quoting import quote

logger = logging.getLogger(__name__)

_LOG_PAUSE_SECONDS = 1.0
_BEARER = "bearer "

_UNAUTHENTICATED = "send a valid token as 'authorization: Bearer TOKEN', or a client certificate"
_FORBIDDEN = "your credentials do not allow this"

CountRefusal = Callable[[str, ServiceError], None]
"""Counts a call that is refused on arrival, by the name of the principal."""


class AccessControl:
    """Decides who may do what, for every transport.

    Refusals tell the caller nothing but what to send; the log has one of them per second.

    Args:
        roster: The principals that are known.
        count: Counts each call that is refused on arrival.
    """

    def __init__(self, roster: FollowedRoster, count: CountRefusal) -> None:
        self._roster = roster
        self._count = count
        self._lock = threading.Lock()
        self._logged_at = 0.0
        self._held_back = 0

    @property
    def knows_certificates(self) -> bool:
        """Whether a principal may show a certificate in place of a token."""
        return self._roster.current.knows_certificates

    def named(self, name: str) -> Principal:
        """The principal of a name, as another process has admitted it.

        That process may have read another file of principals by now; answers stay apart by name.
        """
        return self._roster.current.named(name)

    def close(self) -> None:
        """Stop following the file of principals."""
        self._roster.close()

    def admit(
        self,
        method: str,
        row: Row,
        authorization: str | None,
        certificate: PeerCertificate | None = None,
        address: Address | None = None,
    ) -> Principal:
        """Decide on a call when it arrives, before its message is there.

        Args:
            method: Its method or path, for the log.
            row: The method's row of the table.
            authorization: The header of that name; None if there is none. A caller that sends one
                is judged by it alone.
            certificate: The caller's verified certificate; None if there is none.
            address: What is known of a request over HTTP before its body is there; None for an RPC,
                of which each message is checked.

        Returns:
            Who calls; `ANONYMOUS` for an open row without valid credentials.

        Raises:
            UnauthenticatedError: There are no valid credentials, and the row is not open.
            PermissionDeniedError: The caller does not have the row's scope.
            LimitExceededError: The caller has sent too many requests of late.
        """
        principal = self._identify(authorization, certificate)
        try:
            if address is not None:
                _check(row, principal, address)
            elif not row.is_open and row.scope and not principal.grants.allow(row.scope):
                raise _refusal(principal)
            principal.spend_request()
        except ServiceError as error:
            self._count(principal.name, error)
            self._log(method, principal, error, authorization)
            raise
        return principal

    def check(self, method: str, row: Row, principal: Principal, message: Any) -> None:  # noqa: ANN401
        """Decide on one message of an admitted call, which counts and records its end itself.

        Raises:
            PermissionDeniedError: The caller does not have the scope for this message.
            UnauthenticatedError: The same, for a caller without credentials.
        """
        try:
            _check(row, principal, message)
        except ServiceError as error:
            self._log(method, principal, error, None)
            raise

    def _identify(
        self, authorization: str | None, certificate: PeerCertificate | None
    ) -> Principal:
        known = None
        if authorization is not None:
            if authorization[: len(_BEARER)].lower() == _BEARER:
                known = self._roster.current.of_token(authorization[len(_BEARER) :].strip())
        elif certificate is not None:
            known = self._roster.current.of_certificate(certificate)
        return known or ANONYMOUS

    def _log(
        self, method: str, principal: Principal, error: ServiceError, authorization: str | None
    ) -> None:
        now = time.monotonic()
        with self._lock:
            if now - self._logged_at < _LOG_PAUSE_SECONDS:
                self._held_back += 1
                return
            self._logged_at, held_back, self._held_back = now, self._held_back, 0
        who = f"principal {principal.name}"
        if principal is ANONYMOUS and authorization is not None:
            # The operator finds the client that still has an old token by the digits of its hash.
            token = authorization[len(_BEARER) :].strip()
            who += f" (token {token_id(token_hash(token))} is unknown or has expired)"
        logger.warning(
            "refused %s to %s: %s%s",
            quote(method),
            who,
            error,
            f" ({held_back} similar lines were left out)" if held_back else "",
        )


def _check(row: Row, principal: Principal, message: Any) -> None:  # noqa: ANN401
    if row.scope is None or (row.free is not None and row.free(message)):
        return
    model = row.model(message) if row.model is not None else None
    if not principal.grants.allow(row.scope, model):
        raise _refusal(principal)


def _refusal(principal: Principal) -> ServiceError:
    if principal is ANONYMOUS:
        return UnauthenticatedError(_UNAUTHENTICATED)
    return PermissionDeniedError(_FORBIDDEN)
