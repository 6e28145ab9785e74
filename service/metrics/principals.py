"""Metrics of the principals' calls, and of the file that they are read from."""

from prometheus_client import CollectorRegistry, Counter, Gauge

from convd.service.access.principal import OTHERS

MAX_PRINCIPALS = 200
"""Maximum principals with series of their own; the calls of others are counted together."""


class PrincipalMetrics:
    """Counts the calls of each principal.

    Args:
        registry: Collects the metrics.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._calls = Counter(
            "convd_principal_requests",
            "Finished and refused requests by principal and gRPC status code; anonymous for "
            "callers without valid credentials.",
            ["principal", "code"],
            registry=registry,
        )
        self._file_refused = Gauge(
            "convd_principals_file_refused",
            "1 if the file of principals cannot be used and the last good one is in force, else 0.",
            registry=registry,
        )
        self._names: set[str] = set()
        self._children: dict[tuple[str, str], Counter] = {}

    def answered(self, principal: str, code: str) -> None:
        """Count one request of a principal."""
        if principal not in self._names:
            if len(self._names) >= MAX_PRINCIPALS:
                principal = OTHERS
            self._names.add(principal)
        child = self._children.get((principal, code))
        if child is None:
            child = self._children[principal, code] = self._calls.labels(principal, code)
        child.inc()

    def file_read(self, failed: bool) -> None:
        """Export whether the last attempt to read the file failed."""
        self._file_refused.set(failed)
