"""The steps in the life of a model's versions: loading, refusing, draining, forgetting."""

import dataclasses
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from convd.artifact.bundle import MANIFEST_FILE
from convd.artifact.repository import ModelRepository
from convd.runtime.selftest import SelfTestError
from convd.service.lifecycle.catalog import Catalog, VersionChoice, VersionStatus
from convd.service.lifecycle.configuration import ModelConfiguration
from convd.service.lifecycle.draining import Drains
from convd.service.lifecycle.policy import Action, State
from convd.service.lifecycle.problems import contract_differences
from convd.service.lifecycle.retries import Attempt, FailedLoads, fingerprint
from convd.service.servables.servable import Servable

logger = logging.getLogger(__name__)

LoadServable = Callable[[str, int, ModelConfiguration], Servable]


class VersionTransitions:
    """Brings versions of one model from one state to the next, and enters each in the catalog.

    Args:
        name: The model.
        repository: Where its versions are.
        catalog: Where what is loaded is entered.
        load: Makes a servable of a version; raises if it must not serve.
        drains: Where servables end that are no longer wanted.
        failures: Remembers what failed.
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
        """Do what was planned for a version; where it cannot be loaded, its status says so."""
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
        """Begin to drain what answers for a version."""
        if status.servable is not None:
            self.enter(dataclasses.replace(status, state=State.DRAINING, reason=""))
            self._drains.begin(status.servable, lambda: self._drained(status.version))

    def enter(self, status: VersionStatus) -> None:
        """Record the status of a version, and tell of it."""
        self._catalog.put(status)
        self._on_change(status)

    def is_worth_another_try(
        self, status: VersionStatus, engine_settings: Mapping[str, Any]
    ) -> bool:
        """Whether a version failed, or answers and was published or configured anew since."""
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
        # Taken before the files are read: what changes meanwhile is noticed at the next look.
        files, manifest = fingerprint(path), _manifest_stamp(path)
        try:
            servable = self._load(self.name, version, configuration)
        # Whatever is wrong with one version, the others go on.
        except Exception as error:
            final = isinstance(error.__cause__, SelfTestError)
            known = self._failures.has(version)
            self._failures.record(version, Attempt(files, engine_settings), final=final)
            # ONNX Runtime's own texts have several lines.
            reason = " ".join(str(error).split()) or type(error).__name__
            self._refuse(before, reason, known=known)
            return
        self._failures.forget(version)
        self._loaded[version] = Attempt(manifest, engine_settings)
        self._note_another_contract(servable)
        self.enter(VersionStatus(self.name, version, State.AVAILABLE, servable=servable))
        logger.info("available: %s", servable.describe())
        if before.servable is not None:
            self._drains.begin(before.servable, lambda: None)

    def _refuse(self, before: VersionStatus, reason: str, *, known: bool) -> None:
        if before.state is State.AVAILABLE:
            reason = f"could not be loaded anew, and answers as it was loaded before: {reason}"
            status = dataclasses.replace(before, reason=reason)
        else:
            status = VersionStatus(self.name, before.version, State.FAILED, reason)
        self.enter(status)
        level = logging.DEBUG if known else logging.ERROR
        logger.log(level, "refused %s version %d: %s", self.name, before.version, reason)

    def _drained(self, version: int) -> None:
        self.enter(VersionStatus(self.name, version, State.UNLOADED))
        logger.info("unloaded %s version %d", self.name, version)

    def _note_another_contract(self, servable: Servable) -> None:
        """Tell clients that prepare their own images; those that send files never notice."""
        answering = self._catalog.newest(self.name)
        if answering is None or answering.version == servable.version:
            return
        differences = contract_differences(answering.manifest, servable.manifest)
        if differences:
            logger.warning(
                "%s version %d differs from version %d: %s; clients that send prepared images or "
                "count on the order of classes should name a version or a label",
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
    """Changes when another artifact takes the place of this one; None if there is none."""
    try:
        status = (path / MANIFEST_FILE).stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size
