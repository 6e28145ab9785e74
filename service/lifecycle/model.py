"""One model: keeps its loaded versions in step with its folder and its configuration."""

import dataclasses
import logging
from collections.abc import Callable
from pathlib import Path

from artifact.bundle import MANIFEST_FILE
from artifact.repository import ModelRepository
from runtime.selftest import SelfTestError
from service.lifecycle.catalog import Catalog, VersionStatus
from service.lifecycle.configuration import (
    CONFIGURATION_FILE,
    ConfigurationFile,
    ModelConfiguration,
)
from service.lifecycle.draining import Drains
from service.lifecycle.policy import Action, State, move_labels, plan
from service.lifecycle.problems import contract_differences, unmet_wishes
from service.lifecycle.retries import Attempt, FailedLoads, fingerprint
from service.servable import Servable

logger = logging.getLogger(__name__)

Load = Callable[[str, int, ModelConfiguration], Servable]


class ModelLifecycle:
    """Loads, reloads and drains the versions of one model.

    Not to be called from two threads at once.

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
        load: Load,
        drains: Drains,
        failures: FailedLoads,
        on_change: Callable[[VersionStatus], None],
    ) -> None:
        self.name = name
        self.held_back = False
        self._repository = repository
        self._catalog = catalog
        self._load = load
        self._drains = drains
        self._on_change = on_change
        self._file = ConfigurationFile(repository.root / name / CONFIGURATION_FILE)
        self._listed: set[int] = set()
        self._loaded: dict[int, Attempt] = {}
        self._failures = failures
        self._refused = False

    @property
    def configured(self) -> bool:
        """Whether this is a model that somebody wants to be served."""
        wanted = self._file.exists or bool(self._catalog.statuses(self.name))
        return wanted and not self.held_back

    @property
    def configuration(self) -> ModelConfiguration | None:
        """The configuration in force; None if there is none that can be used."""
        return self._file.configuration

    @property
    def configuration_problem(self) -> str:
        """Why `config.yaml` is refused; empty if it is not."""
        return self._file.problem

    def reconcile(self, stopped: Callable[[], bool]) -> None:
        """Bring what is loaded in step with the folder, until nothing is left to do.

        Args:
            stopped: Whether to leave it at that.

        Raises:
            RepositoryError: The folder cannot be read. What is loaded stays loaded.
        """
        self._file.refresh()
        on_disk = self._look()
        configuration = self._file.configuration
        if configuration is None:
            self._refuse_all(on_disk)
            return
        if self._refused:
            self._accept_again()
        retried = self._worth_another_try(on_disk, configuration)
        while not stopped():
            self._resolve_labels(configuration)
            states = {status.version: status.state for status in self._statuses()}
            actions = self._plan(on_disk, states, configuration, retried)
            for action in actions:
                if stopped():
                    return
                retried.discard(action.version)
                self._carry_out(action, configuration)
            if not actions:
                break
        self._catalog.set_problem(self.name, self._problem(on_disk, configuration))

    def try_failed_again(self) -> None:
        """Let the next look try every failed version, whatever the reason."""
        for status in self._statuses():
            self._failures.forget(status.version)

    def drain(self) -> None:
        """Begin to drain every servable."""
        for status in self._statuses():
            if status.state is State.AVAILABLE:
                self._start_draining(status)

    def _look(self) -> set[int]:
        """Versions on disk; one that answers must be missing twice before it is given up."""
        listed = set(self._repository.versions(self.name))
        available = {one.version for one in self._statuses() if one.state is State.AVAILABLE}
        on_disk = listed | (available & self._listed)
        self._listed = listed
        return on_disk

    def _plan(
        self,
        on_disk: set[int],
        states: dict[int, State],
        configuration: ModelConfiguration,
        retried: set[int],
    ) -> list[Action]:
        if self.held_back:
            available = [one for one, state in states.items() if state is State.AVAILABLE]
            return [Action("unload", version) for version in available]
        failed = {one for one in retried if states.get(one) is State.FAILED}
        return plan(
            on_disk,
            states | dict.fromkeys(failed, State.UNLOADED),
            configuration.version_policy,
            labels=configuration.labels,
            resolved=self._catalog.labels(self.name),
            stale=retried,
        )

    def _worth_another_try(self, on_disk: set[int], configuration: ModelConfiguration) -> set[int]:
        """Versions that failed, or that answer and were published or configured anew since."""
        engine_settings = configuration.engine_settings()
        versions = set()
        for status in self._statuses():
            if status.version not in on_disk:
                continue
            if status.state is State.AVAILABLE:
                loaded = self._loaded[status.version]
                manifest = _manifest_stamp(self._path(status.version))
                now = Attempt(manifest or loaded.files, engine_settings)
                if now == loaded:
                    continue
            elif status.state is not State.FAILED:
                continue
            attempt = Attempt(fingerprint(self._path(status.version)), engine_settings)
            if self._failures.is_due(status.version, attempt):
                versions.add(status.version)
        return versions

    def _carry_out(self, action: Action, configuration: ModelConfiguration) -> None:
        if action.kind == "load":
            self._put(VersionStatus(self.name, action.version, State.LOADING))
            self._load_version(action.version, configuration)
        elif action.kind == "reload":
            self._load_version(action.version, configuration)
        elif action.kind == "unload":
            self._start_draining(self._catalog.status(self.name, action.version))
        else:
            self._failures.forget(action.version)
            self._catalog.forget(self.name, action.version)

    def _load_version(self, version: int, configuration: ModelConfiguration) -> None:
        path = self._path(version)
        before = self._catalog.status(self.name, version)
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
        self._put(VersionStatus(self.name, version, State.AVAILABLE, servable=servable))
        logger.info("available: %s", servable.describe())
        if before.servable is not None:
            self._drains.begin(before.servable, lambda: None)

    def _refuse(self, before: VersionStatus, reason: str, *, known: bool) -> None:
        if before.state is State.AVAILABLE:
            reason = f"could not be loaded anew, and answers as it was loaded before: {reason}"
            status = dataclasses.replace(before, reason=reason)
        else:
            status = VersionStatus(self.name, before.version, State.FAILED, reason)
        self._put(status)
        level = logging.DEBUG if known else logging.ERROR
        logger.log(level, "refused %s version %d: %s", self.name, before.version, reason)

    def _start_draining(self, status: VersionStatus) -> None:
        if status.servable is not None:
            self._put(dataclasses.replace(status, state=State.DRAINING, reason=""))
            self._drains.begin(status.servable, lambda: self._drained(status.version))

    def _drained(self, version: int) -> None:
        self._put(VersionStatus(self.name, version, State.UNLOADED))
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

    def _resolve_labels(self, configuration: ModelConfiguration) -> None:
        before = self._catalog.labels(self.name)
        states = {status.version: status.state for status in self._statuses()}
        labels = move_labels(configuration.labels, before, states)
        self._catalog.set_labels(self.name, labels, configuration.labels)
        for label in sorted(labels):
            if labels[label] != before.get(label):
                logger.info("label %s of %s points to version %d", label, self.name, labels[label])

    def _problem(self, on_disk: set[int], configuration: ModelConfiguration) -> str:
        """What is wrong with the configuration, or is not as it wants it; empty for nothing."""
        unmet = unmet_wishes(configuration, on_disk, self._catalog.labels(self.name))
        problem = "; ".join(filter(None, [self._file.problem, *unmet]))
        if problem and problem != self._catalog.problem(self.name):
            logger.warning("%s: %s", self.name, problem)
        return problem

    def _refuse_all(self, on_disk: set[int]) -> None:
        """Serve nothing: without its configuration the wrong version might be served."""
        self._refused = True
        if on_disk:
            self._put(VersionStatus(self.name, max(on_disk), State.FAILED, self._file.problem))
        self._catalog.set_problem(self.name, self._file.problem)

    def _accept_again(self) -> None:
        self._refused = False
        for status in self._statuses():
            self._catalog.forget(self.name, status.version)

    def _statuses(self) -> list[VersionStatus]:
        return self._catalog.statuses(self.name)

    def _path(self, version: int) -> Path:
        return self._repository.version_path(self.name, version)

    def _put(self, status: VersionStatus) -> None:
        self._catalog.put(status)
        self._on_change(status)


def _manifest_stamp(path: Path) -> object:
    """Changes when another artifact takes the place of this one; None if there is none."""
    try:
        status = (path / MANIFEST_FILE).stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size
