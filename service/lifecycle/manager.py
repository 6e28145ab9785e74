"""The manager: keeps the loaded versions in step with the repository."""

import functools
import logging
import threading
import time
from collections.abc import Callable, Iterable

from convd.artifact.mirror import Mirror
from convd.artifact.repository import ModelRepository
from convd.service.errors import ModelNotFoundError, UnavailableError
from convd.service.lifecycle.catalog import Catalog, VersionStatus
from convd.service.lifecycle.draining import Drains
from convd.service.lifecycle.look import RepositoryLook
from convd.service.lifecycle.model import ModelLifecycle
from convd.service.lifecycle.patience import PatientRunner
from convd.service.lifecycle.policy import State, VersionPolicy
from convd.service.lifecycle.readiness import Readiness
from convd.service.lifecycle.retries import FailedLoads
from convd.service.lifecycle.shadow_settings import ShadowSettings
from convd.service.lifecycle.transitions import LoadServable, VersionTransitions
from convd.service.quoting import quote

logger = logging.getLogger(__name__)

_DRAIN_SECONDS = 60.0

Everywhere = Callable[[str, str], None]
"""Makes every worker "load" or "unload" a model, and raises an error if one of them does."""


class ServableManager:
    """Polls the repository, and reconciles its models with it, several at a time.

    Polling also works on network volumes, which send no change notifications.

    Args:
        repository: Holds the models to serve.
        catalog: Holds the loaded versions.
        load: Makes a servable of a version; raises if it must not serve.
        poll_seconds: Time between two looks at the repository; None for one look only.
        patience_seconds: How long a model may load before the others go on without it.
        loading_threads: How many models are loaded at the same time.
        on_change: Called after every change of a version's status, by one thread at a time.
        on_look: Called after every look at the repository.
        everywhere: Makes every worker load or unload a model; None for a single process.
        mirror: Copies the repository from object storage before each look; None for a folder.
        clock: A monotonic clock, in seconds, that schedules retries of failed loads.
    """

    def __init__(
        self,
        repository: ModelRepository,
        catalog: Catalog,
        load: LoadServable,
        *,
        poll_seconds: float | None,
        patience_seconds: float = 60.0,
        loading_threads: int = 1,
        on_change: Callable[[VersionStatus], None],
        on_look: Callable[[], None],
        everywhere: Everywhere | None = None,
        mirror: Mirror | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._repository = repository
        self._catalog = catalog
        self._load = load
        self._poll_seconds = poll_seconds
        self._patience_seconds = patience_seconds
        self._on_change = on_change
        self._on_look = on_look
        self._everywhere = everywhere
        self._mirror = mirror
        self._clock = clock
        self._stop = threading.Event()
        self._wake = threading.Event()
        self._runner = PatientRunner(patience_seconds, self._stop, loading_threads)
        self._hanging: dict[str, threading.Event] = {}
        self._locks: dict[str, threading.Lock] = {}
        self._thread = threading.Thread(target=self._poll, name="servable-manager", daemon=True)
        self._reporting = threading.Lock()
        self._models: dict[str, ModelLifecycle] = {}
        self._drains = Drains()
        self._look = RepositoryLook(repository)
        self._first_look = threading.Event()
        self._readiness = Readiness()

    @property
    def refused_configurations(self) -> dict[str, bool]:
        """For each model, whether its `config.yaml` is refused."""
        return {
            name: bool(model.configuration_problem) for name, model in list(self._models.items())
        }

    @property
    def shadows(self) -> dict[str, ShadowSettings]:
        """For each model whose versions are compared, how."""
        configurations = {name: one.configuration for name, one in list(self._models.items())}
        return {name: one.shadow for name, one in configurations.items() if one and one.shadow}

    @property
    def repository_problem(self) -> str:
        """Why the last look at the repository was incomplete; empty if it was not."""
        return self._look.problem

    def start(self) -> None:
        """Load the repository's models and follow its changes, in the background."""
        self._thread.start()

    def wait_for_first_look(self) -> None:
        """Wait until every model was tried once."""
        self._first_look.wait()

    def look_now(self) -> None:
        """Look at the repository as soon as possible."""
        self._wake.set()

    def stop_polling(self) -> None:
        """Stop loading; from now on the server is not ready."""
        self._stop.set()
        self._wake.set()

    def unload_all(self, timeout_seconds: float) -> None:
        """Drain every servable, for at most `timeout_seconds` altogether."""
        deadline = time.monotonic() + timeout_seconds
        self._thread.join(timeout_seconds)
        for model in list(self._models.values()):
            model.drain()
        self._drains.wait(max(deadline - time.monotonic(), 0.0))

    def unready_reason(self) -> str:
        """Why the server is not ready; empty if it is."""
        if self._stop.is_set():
            return "draining"
        statuses = self._catalog.statuses()
        models = list(self._models.values())
        # A model that was asked for by name is missed, whether it was ever seen or not.
        asked = self._repository.chosen or ()
        held_back = {model.name for model in models if model.held_back}
        configured = [model.name for model in models if model.configured]
        configured += [name for name in asked if name not in held_back]
        problems = {name: self._catalog.problem(name) for name in configured}
        problems |= {model.name: model.configuration_problem for model in models}
        return self._readiness.unready_reason(
            configured,
            statuses,
            problems,
            first_look_done=self._first_look.is_set(),
            repository_problem=self.repository_problem,
        )

    def reconcile(self) -> None:
        """Load and unload versions until they match the repository.

        A model that cannot be read stays as it is; the others are reconciled.
        """
        self._copy_repository()
        if self._stop.is_set() or not self._look.attempt("", self._find_models):
            return
        self._hanging = {name: over for name, over in self._hanging.items() if not over.is_set()}
        steps = {
            name: functools.partial(self._take_step, name)
            for name in sorted(self._models)
            if name not in self._hanging
        }
        for name, over in self._runner.run(steps).items():
            self._hanging[name] = over
            if not self._stop.is_set():
                logger.error(
                    "%s has not been loaded after %g s: the other models go on without it",
                    name,
                    self._patience_seconds,
                )

    def load_model(self, name: str) -> None:
        """Load a model's new versions now, or a model that was unloaded or has failed.

        With several workers, every worker loads it.

        Raises:
            ModelNotFoundError: The repository has no such model.
            UnavailableError: No version of it could be loaded.
        """
        if self._everywhere is None:
            self.load_here(name)
        else:
            self._everywhere("load", name)

    def unload_model(self, name: str) -> None:
        """Unload every version of a model; it stays unloaded until a client loads it again.

        With several workers, every worker unloads it.

        Raises:
            ModelNotFoundError: There is no such model.
        """
        if self._everywhere is None:
            self.unload_here(name)
        else:
            self._everywhere("unload", name)

    def hold_back(self, names: Iterable[str]) -> None:
        """Keep models unloaded that clients unloaded before this process started."""
        for name in names:
            self._model(name).held_back = True

    def load_here(self, name: str) -> None:
        """Load a model in this process, as `load_model` does."""
        self._copy_repository(now=True)
        with self._changing(name):
            if name not in self._repository.models() or not self._repository.versions(name):
                raise ModelNotFoundError(f"the repository has no model {quote(name)}")
            model = self._model(name)
            model.held_back = False
            model.try_failed_again()
        self._wait_for_drains(name)
        with self._changing(name):
            if name in self._models:
                self._reconcile(name)
        self._on_look()
        statuses = self._catalog.statuses(name)
        if not any(status.state is State.AVAILABLE for status in statuses):
            reasons = "; ".join(
                f"version {one.version} is {one.state.value} {one.reason}".rstrip()
                for one in statuses
            )
            raise UnavailableError(f"model {name} cannot be loaded: {reasons}")

    def unload_here(self, name: str) -> None:
        """Unload a model in this process, as `unload_model` does."""
        with self._changing(name):
            if not self._catalog.statuses(name):
                raise ModelNotFoundError(f"there is no model {quote(name)}")
            self._model(name).held_back = True
            self._reconcile(name)
        self._on_look()

    def version_policy(self, name: str) -> VersionPolicy | None:
        """Which versions of a model should be available; None if its configuration is refused."""
        model = self._models.get(name)
        configuration = model.configuration if model is not None else None
        return configuration.version_policy if configuration is not None else None

    def _wait_for_drains(self, name: str) -> None:
        """Wait for draining versions of a model, which cannot be reloaded before they end."""
        deadline = time.monotonic() + _DRAIN_SECONDS
        while any(one.state is State.DRAINING for one in self._catalog.statuses(name)):
            if self._stop.wait(0.02) or time.monotonic() > deadline:
                return

    def _copy_repository(self, *, now: bool = False) -> None:
        """Bring the copy of object storage in step; in an outage it stays as it is."""
        if self._mirror is not None:
            copy = functools.partial(self._mirror.sync, self._stop.is_set, now=now)
            self._look.attempt(self._mirror.url, copy)

    def _find_models(self) -> None:
        for name in self._look.models(had_models=bool(self._models)):
            self._model(name)

    def _model(self, name: str) -> ModelLifecycle:
        if name not in self._models:
            failures = FailedLoads(self._clock)
            transitions = VersionTransitions(
                name,
                self._repository,
                self._catalog,
                self._load,
                self._drains,
                failures,
                self._report,
            )
            self._models[name] = ModelLifecycle(
                name, self._repository, self._catalog, failures, transitions
            )
        return self._models[name]

    def _take_step(self, name: str) -> None:
        with self._changing(name):
            self._look.attempt(name, functools.partial(self._reconcile, name))

    def _changing(self, name: str) -> threading.Lock:
        """What is held while versions of a model are loaded or unloaded."""
        return self._locks.setdefault(name, threading.Lock())

    def _reconcile(self, name: str) -> None:
        self._models[name].reconcile(self._stop.is_set)
        if not self._catalog.statuses(name) and not self._models[name].configured:
            del self._models[name]

    def _report(self, status: VersionStatus) -> None:
        # Each draining servable ends in a thread of its own.
        with self._reporting:
            self._on_change(status)

    def _poll(self) -> None:
        while not self._stop.is_set():
            self.reconcile()
            self._first_look.set()
            try:
                self._on_look()
            except Exception:
                logger.exception("what follows a look at the repository failed")
            self._wake.wait(self._poll_seconds)
            if not self._stop.is_set():
                self._wake.clear()
