"""Access control of requests over HTTP: decided by their address, before their body is read."""

from collections.abc import Iterable, Mapping

from convd.service.access.certificates import PeerCertificate
from convd.service.access.control import AccessControl
from convd.service.access.principal import Principal
from convd.service.access.table import Address, row_of_path
from convd.service.web.request import Head
from convd.service.web.routes import Route


class Admission:
    """Decides who may send which request.

    Args:
        routes: Every route that there is.
        access: Decides; None where anyone may do everything.

    Raises:
        UnlistedError: A route has no row in the table of scopes.
    """

    def __init__(self, routes: Iterable[Route], access: AccessControl | None) -> None:
        self._rows = {route: row_of_path(route.method, route.path) for route in routes}
        self._access = access

    def admit(
        self,
        route: Route,
        head: Head,
        segments: Mapping[str, str],
        certificate: PeerCertificate | None,
    ) -> Principal | None:
        """Who sends a request; None where anyone may do everything.

        Raises:
            ServiceError: They may not send it, or not now.
        """
        if self._access is None:
            return None
        return self._access.admit(
            f"{route.method} {route.path}",
            self._rows[route],
            head.headers.get("authorization"),
            certificate,
            Address(segments, {name: values[-1] for name, values in head.query.items()}),
        )

    def may_know_reasons(self, route: Route, principal: Principal | None) -> bool:
        """Whether an answer may give its reasons, such as the name of a model that is missing."""
        if principal is None:
            return True
        needed = self._rows[route].reasons
        return needed is None or principal.grants.allow(needed)
