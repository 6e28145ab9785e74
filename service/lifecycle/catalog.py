"""The catalog: every version that the server knows, its state, and the servable behind it."""

import contextlib
import threading
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from convd.service.access.scopes import Scope
from convd.service.calls.call import call_in_progress
from convd.service.errors import ModelNotFoundError, UnavailableError, VersionNotFoundError
from convd.service.lifecycle.policy import State
from convd.service.quoting import quote
from convd.service.servables.servable import Servable
from convd.service.statistics import StatisticsByVersion


class VersionChoice(NamedTuple):
    """The version that a caller asks for: by number, by label, or by neither for the newest.

    Attributes:
        model: The model.
        version: Number of the version.
        label: A label of the version, instead of its number.
    """

    model: str
    version: int | None = None
    label: str | None = None


@dataclass(frozen=True)
class VersionStatus:
    """What is known about one version.

    Attributes:
        name: The model.
        version: The version.
        state: Where it is in its life.
        reason: Why it failed, or why its reload failed; empty otherwise.
        servable: The servable that answers, while the version is available or draining.
    """

    name: str
    version: int
    state: State
    reason: str = ""
    servable: Servable | None = None


@dataclass
class _Model:
    versions: dict[int, VersionStatus] = field(default_factory=dict)
    newest: Servable | None = None
    labels: dict[str, int] = field(default_factory=dict)
    wanted_labels: dict[str, int] = field(default_factory=dict)
    problem: str = ""


_UNKNOWN = _Model()


class Catalog:
    """A table of versions that many threads read and the lifecycle writes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._models: dict[str, _Model] = {}
        # Apart from the models: a candidate is known before its model has any version.
        self._candidates: dict[str, frozenset[int]] = {}

    def put(self, status: VersionStatus) -> None:
        """Record the status of a version."""
        with self._lock:
            model = self._models.setdefault(status.name, _Model())
            model.versions[status.version] = status
            self._find_newest(status.name)

    def forget(self, name: str, version: int) -> None:
        """Remove a version from the table, and its model with the last of them."""
        with self._lock:
            model = self._models[name]
            model.versions.pop(version, None)
            self._find_newest(name)
            if not model.versions:
                del self._models[name]

    def set_labels(self, name: str, labels: Mapping[str, int], wanted: Mapping[str, int]) -> None:
        """Record what each label of a model points to, and what its configuration wants."""
        with self._lock:
            if name in self._models:
                self._models[name].labels = dict(labels)
                self._models[name].wanted_labels = dict(wanted)

    def set_candidates(self, name: str, versions: Collection[int]) -> None:
        """Record the versions of a model that answer only the callers who name them."""
        with self._lock:
            self._candidates[name] = frozenset(versions)
            if not versions:
                del self._candidates[name]
            if name in self._models:
                self._find_newest(name)

    def labels(self, name: str) -> dict[str, int]:
        """The available version that each label of a model points to."""
        with self._lock:
            return dict(self._models[name].labels) if name in self._models else {}

    def set_problem(self, name: str, problem: str) -> None:
        """Record what is wrong with a model's configuration; empty if nothing is."""
        with self._lock:
            if name in self._models:
                self._models[name].problem = problem

    def problem(self, name: str) -> str:
        """What is wrong with a model's configuration; empty if nothing is."""
        with self._lock:
            return self._models[name].problem if name in self._models else ""

    def newest(self, name: str) -> Servable | None:
        """The servable that answers requests without a version; None if there is none."""
        with self._lock:
            return self._models[name].newest if name in self._models else None

    def statuses(self, name: str | None = None) -> list[VersionStatus]:
        """Statuses of all versions, or those of one model, sorted by name and version."""
        with self._lock:
            names = sorted(self._models) if name is None else [name]
            return [
                model.versions[version]
                for model in (self._models[one] for one in names if one in self._models)
                for version in sorted(model.versions)
            ]

    def statistics(self) -> StatisticsByVersion:
        """The statistics of every loaded version in this process."""
        return {
            (one.name, one.version): one.servable.metrics.statistics()
            for one in self.statuses()
            if one.servable is not None
        }

    def longest_batch(self) -> tuple[float, str]:
        """For how many seconds the batch that runs longest has been running, and whose it is."""
        running = [
            (one.servable.batcher.batch_seconds, f"{one.name} version {one.version}")
            for one in self.statuses()
            if one.servable is not None
        ]
        return max(running, default=(0.0, ""))

    def status(self, choice: VersionChoice) -> VersionStatus:
        """Status of one version; without a number or label, of the newest, available ones first.

        Raises:
            ModelNotFoundError: There is no such model.
            VersionNotFoundError: The model has no such version or label.
        """
        name, version, label = choice
        statuses = self.statuses(name)
        if not statuses:
            raise ModelNotFoundError(f"there is no model {quote(name)}{self._hint()}")
        if label is not None:
            version = self._labelled(name, label)
        if version is None:
            candidates = self._candidates.get(name, ())
            return max(
                statuses,
                key=lambda one: (
                    one.version not in candidates,
                    one.state is State.AVAILABLE,
                    one.version,
                ),
            )
        for status in statuses:
            if status.version == version:
                return status
        versions = ", ".join(str(status.version) for status in statuses)
        raise VersionNotFoundError(
            f"model {quote(name)} has no version {version}; it has: {versions}"
        )

    def hold(self, choice: VersionChoice) -> Servable:
        """Find a servable, which then stays loaded until its `release` is called.

        Raises:
            ModelNotFoundError: There is no such model.
            VersionNotFoundError: The model has no such version or label.
            UnavailableError: The version is loading, draining, unloaded or has failed.
        """
        name, version, label = choice
        with self._lock:
            model = self._models.get(name, _UNKNOWN)
            if label is not None:
                # A label that points to nothing must not mean the newest version.
                version = model.labels.get(label, 0)
            if version is None:
                servable = model.newest
            else:
                status = model.versions.get(version)
                servable = status.servable if status and status.state is State.AVAILABLE else None
            if servable is not None:
                # Still under the lock, so that draining cannot begin in between.
                servable.retain()
                return servable
        status = self.status(choice)
        if status.state is State.AVAILABLE and version is None:
            raise UnavailableError(
                f"only version {status.version} of model {quote(name)} is available: a candidate, "
                "which answers the callers who name it"
            )
        reason = f": {status.reason}" if status.reason else "; try again later"
        raise UnavailableError(
            f"version {status.version} of model {quote(name)} is {status.state.value}{reason}"
        )

    @contextlib.contextmanager
    def acquire(self, choice: VersionChoice) -> Iterator[Servable]:
        """Hold a servable while the block runs; the errors are those of `hold`."""
        servable = self.hold(choice)
        try:
            yield servable
        finally:
            servable.release()

    def _find_newest(self, name: str) -> None:
        model, candidates = self._models[name], self._candidates.get(name, ())
        available = [
            status.servable
            for status in model.versions.values()
            if status.state is State.AVAILABLE
            and status.servable is not None
            and status.version not in candidates
        ]
        model.newest = max(available, key=lambda servable: servable.version, default=None)

    def _labelled(self, name: str, label: str) -> int:
        with self._lock:
            model = self._models.get(name, _Model())
            if label in model.labels:
                return model.labels[label]
            if label in model.wanted_labels:
                return model.wanted_labels[label]
            labels = ", ".join(sorted(model.wanted_labels)) or "none"
        raise VersionNotFoundError(
            f"model {quote(name)} has no label {quote(label)}; its labels are: {labels}"
        )

    def _hint(self) -> str:
        """Which models there are, for those who may know it."""
        call = call_in_progress()
        principal = call.principal if call is not None else None
        if principal is not None and not principal.grants.allow(Scope.LIST_MODELS):
            return ""
        with self._lock:
            return f"; the models are: {', '.join(sorted(self._models)) or 'none'}"
