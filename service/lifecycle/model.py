"""One model: keeps its loaded versions in step with its folder and configuration."""

import logging
from collections.abc import Callable, Mapping
from functools import partial

from convd.artifact.repository import CONFIGURATION_FILE, ModelRepository
from convd.service.lifecycle.catalog import Catalog, VersionStatus
from convd.service.lifecycle.configuration import ConfigurationFile, ModelConfiguration
from convd.service.lifecycle.policy import Action, State, move_labels, plan
from convd.service.lifecycle.problems import unmet_wishes
from convd.service.lifecycle.retries import FailedLoads
from convd.service.lifecycle.transitions import VersionTransitions

logger = logging.getLogger(__name__)


class ModelLifecycle:
    """Decides which versions of one model to load, reload and drain.

    Not thread-safe.

    Args:
        name: The model.
        repository: Holds its versions.
        catalog: Holds the loaded versions.
        failures: Remembers failed loads.
        transitions: Carries out the decisions.

    Attributes:
        held_back: Whether a client has unloaded the model, so that it stays unloaded.
    """

    def __init__(
        self,
        name: str,
        repository: ModelRepository,
        catalog: Catalog,
        failures: FailedLoads,
        transitions: VersionTransitions,
    ) -> None:
        self.name = name
        self.held_back = False
        self._repository = repository
        self._catalog = catalog
        self._transitions = transitions
        self._file = ConfigurationFile(
            repository.root / name / CONFIGURATION_FILE,
            partial(repository.read_configuration, name),
        )
        self._listed: set[int] = set()
        self._failures = failures
        self._refused = False

    @property
    def configured(self) -> bool:
        """Whether the model should be served."""
        wanted = self._file.exists or bool(self._catalog.statuses(self.name))
        return wanted and not self.held_back

    @property
    def configuration(self) -> ModelConfiguration | None:
        """The configuration in force; None if there is no valid one."""
        return self._file.configuration

    @property
    def configuration_problem(self) -> str:
        """Why `config.yaml` is refused; empty if it is not."""
        return self._file.problem

    def reconcile(self, stopped: Callable[[], bool]) -> None:
        """Load and unload versions until they match the folder and the configuration.

        Args:
            stopped: Returns whether to stop early.

        Raises:
            RepositoryError: The folder cannot be read; loaded versions stay loaded.
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
                self._transitions.carry_out(action, configuration)
            if not actions:
                break
        self._catalog.set_problem(self.name, self._problem(on_disk, configuration))

    def try_failed_again(self) -> None:
        """Retry every failed version at the next look, whatever the reason of its failure."""
        for status in self._statuses():
            self._failures.forget(status.version)

    def drain(self) -> None:
        """Begin to drain every servable."""
        for status in self._statuses():
            if status.state is State.AVAILABLE:
                self._transitions.drain(status)

    def _look(self) -> set[int]:
        """Versions on disk; an available version counts as gone only after two looks."""
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
        engine_settings = configuration.engine_settings()
        return {
            status.version
            for status in self._statuses()
            if status.version in on_disk
            and self._transitions.is_worth_another_try(status, engine_settings)
        }

    def _resolve_labels(self, configuration: ModelConfiguration) -> None:
        before = self._catalog.labels(self.name)
        states = {status.version: status.state for status in self._statuses()}
        labels = move_labels(configuration.labels, before, states)
        self._catalog.set_labels(self.name, labels, configuration.labels)
        self._catalog.set_candidates(self.name, _candidates(configuration, labels))
        for label in sorted(labels):
            if labels[label] != before.get(label):
                logger.info(
                    "label %s of %s now points to version %d", label, self.name, labels[label]
                )

    def _problem(self, on_disk: set[int], configuration: ModelConfiguration) -> str:
        """What is wrong with the configuration or does not match it; empty if nothing is."""
        unmet = unmet_wishes(configuration, on_disk, self._catalog.labels(self.name))
        problem = "; ".join(filter(None, [self._file.problem, *unmet]))
        if problem and problem != self._catalog.problem(self.name):
            logger.warning("%s: %s", self.name, problem)
        return problem

    def _refuse_all(self, on_disk: set[int]) -> None:
        """Load nothing: without a valid configuration, the wrong version might be served."""
        self._refused = True
        if on_disk:
            self._transitions.enter(
                VersionStatus(self.name, max(on_disk), State.FAILED, self._file.problem)
            )
        self._catalog.set_problem(self.name, self._file.problem)

    def _accept_again(self) -> None:
        self._refused = False
        for status in self._statuses():
            self._catalog.forget(self.name, status.version)

    def _statuses(self) -> list[VersionStatus]:
        return self._catalog.statuses(self.name)


def _candidates(configuration: ModelConfiguration, labels: Mapping[str, int]) -> set[int]:
    """Versions that a shadow compares with the live one; only callers who name them get them."""
    shadow = configuration.shadow
    if shadow is None:
        return set()
    # Where the label points to, and where it will once that version is available.
    wanted = configuration.labels[shadow.candidate]
    return {labels.get(shadow.candidate, wanted), wanted} - {labels.get(shadow.live)}
