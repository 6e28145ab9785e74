"""Transitions of a model's versions: loading, refusing, draining, forgetting."""

import dataclasses
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from convd.artifact.bundle import MANIFEST_FILE
from convd.artifact.errors import ExplainedError, public_reason
from convd.artifact.repository import ModelRepository
from convd.runtime.selftest import SelfTestError
from convd.service.lifecycle.catalog import Catalog, VersionChoice, VersionStatus
from convd.service.lifecycle.configuration import ModelConfiguration
from convd.service.lifecycle.draining import Drains
from convd.service.lifecycle.policy import Action, State
from convd.service.lifecycle.problems import contract_differences
from convd.service.lifecycle.retries import Attempt, FailedLoads, fingerprint
from convd.service.quoting import one_line
from convd.service.servables.servable import Servable

logger = logging.getLogger(__name__)

LoadServable = Callable[[str, int, ModelConfiguration], Servable]


class VersionTransitions:
    """Moves the versions of one model from state to state, and records each state in the catalog.

    Args:
        name: The model.
        repository: Holds its versions.
        catalog: Holds the loaded versions.
        load: Makes a servable of a version; raises if it must not serve.
        drains: Drains and closes servables that are no longer wanted.
        failures: Remembers failed loads.
        on_change: Called after every change of a version's status.
    """

    def __init__(
        self,
        name: str,
        repository: ModelRepository,
        catalog: Catalog,
        load: LoadServable,
        drains: Drains,
        failures: FailedLoads,
        on_change: Callable[[VersionStatus], None],
    ) -> None:
        self.name = name
        self._repository = repository
        self._catalog = catalog
        self._load = load
        self._drains = drains
        self._failures = failures
        self._on_change = on_change
        self._loaded: dict[int, Attempt] = {}

    def carry_out(self, action: Action, configuration: ModelConfiguration) -> None:
        """Carry out a planned action; a failed load is recorded in the version's status."""
        if action.kind == "load":
            self.enter(VersionStatus(self.name, action.version, State.LOADING))
            self._load_version(action.version, configuration)
        elif action.kind == "reload":
            self._load_version(action.version, configuration)
        elif action.kind == "unload":
            self.drain(self._status(action.version))
        else:
            self._failures.forget(action.version)
            self._catalog.forget(self.name, action.version)

    def drain(self, status: VersionStatus) -> None:
        """Begin to drain a version's servable."""
        if status.servable is not None:
            self.enter(dataclasses.replace(status, state=State.DRAINING, reason=""))
            self._drains.begin(status.servable, lambda: self._drained(status.version))

    def enter(self, status: VersionStatus) -> None:
        """Record the status of a version, and report the change."""
        self._catalog.put(status)
        self._on_change(status)

    def is_worth_another_try(
        self, status: VersionStatus, engine_settings: Mapping[str, Any]
    ) -> bool:
        """Whether to load again: it failed, or its files or settings have changed since."""
        path = self._path(status.version)
        if status.state is State.AVAILABLE:
            loaded = self._loaded[status.version]
            if Attempt(_manifest_stamp(path) or loaded.files, engine_settings) == loaded:
                return False
        elif status.state is not State.FAILED:
            return False
        return self._failures.is_due(status.version, Attempt(fingerprint(path), engine_settings))

    def _load_version(self, version: int, configuration: ModelConfiguration) -> None:
        path = self._path(version)
        before = self._status(version)
        engine_settings = configuration.engine_settings()
        # Taken before the files are read, so that the next look notices a change made meanwhile.
        files, manifest = fingerprint(path), _manifest_stamp(path)
        try:
            servable = self._load(self.name, version, configuration)
        # Whatever is wrong with one version, the others keep serving.
        except Exception as error:
            final = isinstance(error.__cause__, SelfTestError)
            known = self._failures.has(version)
            self._failures.record(version, Attempt(files, engine_settings), final=final)
            self._refuse(before, error, known=known)
            return
        self._failures.forget(version)
        self._loaded[version] = Attempt(manifest, engine_settings)
        self._note_another_contract(servable)
        self.enter(VersionStatus(self.name, version, State.AVAILABLE, servable=servable))
        logger.info("available: %s", servable.describe())
        if before.servable is not None:
            self._drains.begin(before.servable, lambda: None)

    def _refuse(self, before: VersionStatus, error: Exception, *, known: bool) -> None:
        reason = public_reason(error)
        if before.state is State.AVAILABLE:
            reason = f"reload failed; the previously loaded version keeps serving: {reason}"
            status = dataclasses.replace(before, reason=reason)
        else:
            status = VersionStatus(self.name, before.version, State.FAILED, reason)
        self.enter(status)
        level = logging.DEBUG if known else logging.ERROR
        # ONNX Runtime's messages have several lines.
        full = one_line(" ".join(str(error).split())) or type(error).__name__
        expected = isinstance(error, ExplainedError | OSError | MemoryError)
        logger.log(
            level,
            "refused %s version %d: %s",
            self.name,
            before.version,
            full,
            exc_info=None if expected else error,
        )

    def _drained(self, version: int) -> None:
        self.enter(VersionStatus(self.name, version, State.UNLOADED))
        logger.info("unloaded %s version %d", self.name, version)

    def _note_another_contract(self, servable: Servable) -> None:
        """Warn about changes for clients that prepare their own images or rely on class order."""
        answering = self._catalog.newest(self.name)
        if answering is None or answering.version == servable.version:
            return
        differences = contract_differences(answering.manifest, servable.manifest)
        if differences:
            logger.warning(
                "%s version %d differs from version %d: %s; clients that send prepared images or "
                "rely on the order of classes should request a version or a label",
                self.name,
                servable.version,
                answering.version,
                " and ".join(differences),
            )

    def _status(self, version: int) -> VersionStatus:
        return self._catalog.status(VersionChoice(self.name, version))

    def _path(self, version: int) -> Path:
        return self._repository.version_path(self.name, version)


def _manifest_stamp(path: Path) -> object:
    """A value that changes when the artifact is replaced; None if there is none."""
    try:
        status = (path / MANIFEST_FILE).stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size
