"""The catalog: every version that the server knows, its state, and the servable behind it."""

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass

from service.errors import ModelNotFoundError, UnavailableError, VersionNotFoundError
from service.lifecycle.policy import State
from service.quoting import quote
from service.servable import Servable


@dataclass(frozen=True)
class VersionStatus:
    """What is known about one version.

    Attributes:
        name: The model.
        version: The version.
        state: Where it is in its life.
        reason: Why it failed; empty otherwise.
        servable: What answers, while it is available or draining.
    """

    name: str
    version: int
    state: State
    reason: str = ""
    servable: Servable | None = None


class Catalog:
    """A table of versions that many threads read and one, the manager's, writes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._versions: dict[tuple[str, int], VersionStatus] = {}
        self._newest: dict[str, Servable] = {}

    def put(self, status: VersionStatus) -> None:
        """Record the status of a version."""
        with self._lock:
            self._versions[status.name, status.version] = status
            self._choose_newest(status.name)

    def forget(self, name: str, version: int) -> None:
        """Remove a version from the table."""
        with self._lock:
            self._versions.pop((name, version), None)
            self._choose_newest(name)

    def statuses(self, name: str | None = None) -> list[VersionStatus]:
        """Statuses of all versions, or those of one model, sorted by name and version."""
        with self._lock:
            return [
                status
                for key, status in sorted(self._versions.items())
                if name is None or key[0] == name
            ]

    def status(self, name: str, version: int | None = None) -> VersionStatus:
        """Status of one version; without a version, of the newest, available ones first.

        Raises:
            ModelNotFoundError: There is no such model.
            VersionNotFoundError: The model has no such version.
        """
        statuses = self.statuses(name)
        if not statuses:
            raise ModelNotFoundError(
                f"there is no model {quote(name)}; the models are: {self._names()}"
            )
        if version is None:
            return max(statuses, key=lambda one: (one.state is State.AVAILABLE, one.version))
        for status in statuses:
            if status.version == version:
                return status
        versions = ", ".join(str(status.version) for status in statuses)
        raise VersionNotFoundError(
            f"model {quote(name)} has no version {version}; it has: {versions}"
        )

    @contextlib.contextmanager
    def acquire(self, name: str, version: int | None = None) -> Iterator[Servable]:
        """Hold a servable; it is not unloaded before it is let go.

        Args:
            name: The model.
            version: Its version; None for the newest that is available.

        Raises:
            ModelNotFoundError: There is no such model.
            VersionNotFoundError: The model has no such version.
            UnavailableError: The version is loading, draining, unloaded or has failed.
        """
        servable = self._find(name, version)
        try:
            yield servable
        finally:
            servable.release()

    def _find(self, name: str, version: int | None) -> Servable:
        with self._lock:
            if version is None:
                servable = self._newest.get(name)
            else:
                status = self._versions.get((name, version))
                servable = status.servable if status and status.state is State.AVAILABLE else None
            if servable is not None:
                # Under the lock, so that draining cannot begin in between.
                servable.retain()
                return servable
        status = self.status(name, version)
        reason = f": {status.reason}" if status.reason else "; try again later"
        raise UnavailableError(
            f"version {status.version} of model {quote(name)} is {status.state.value}{reason}"
        )

    def _choose_newest(self, name: str) -> None:
        available = [
            status.servable
            for (model, _), status in self._versions.items()
            if model == name and status.state is State.AVAILABLE and status.servable is not None
        ]
        if available:
            self._newest[name] = max(available, key=lambda servable: servable.version)
        else:
            self._newest.pop(name, None)

    def _names(self) -> str:
        with self._lock:
            return ", ".join(sorted({name for name, _ in self._versions})) or "none"
