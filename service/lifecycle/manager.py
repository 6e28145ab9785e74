"""The manager: keeps what is loaded in step with what the repository holds."""

import logging
import threading
import time
from collections.abc import Callable

from artifact.errors import RepositoryError
from artifact.repository import ModelRepository
from service.errors import ModelNotFoundError, UnavailableError
from service.lifecycle.catalog import Catalog, VersionStatus
from service.lifecycle.policy import Action, State, VersionPolicy, plan
from service.quoting import quote
from service.servable import Servable

logger = logging.getLogger(__name__)

Load = Callable[[str, int], Servable]


class ServableManager:
    """Polls the repository and carries out the plan, one step after another.

    Polling also works on network volumes, where notifications of changes do not arrive.

    Args:
        repository: What should be served.
        catalog: What is served.
        load: Makes a servable of a version; raises if it must not serve.
        poll_seconds: Time between two looks at the repository.
        on_change: Called after every change of a version's status.
        on_reconciled: Called after every look at the repository.
    """

    def __init__(
        self,
        repository: ModelRepository,
        catalog: Catalog,
        load: Load,
        *,
        poll_seconds: float,
        on_change: Callable[[VersionStatus], None],
        on_reconciled: Callable[[], None],
    ) -> None:
        self._repository = repository
        self._catalog = catalog
        self._load = load
        self._poll_seconds = poll_seconds
        self._on_change = on_change
        self._on_reconciled = on_reconciled
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._poll, name="servable-manager", daemon=True)
        self._fingerprints: dict[tuple[str, int], object] = {}
        # Whoever changes what is loaded holds it: the polling thread, or a caller.
        self._changing = threading.Lock()
        self._held_back: set[str] = set()
        self._first_look_done = False
        self._was_ready = False

    def start(self) -> None:
        """Load what there is and keep in step with it, in the background."""
        self._thread.start()

    def stop_polling(self) -> None:
        """Load nothing more; from now on the server is not ready."""
        self._stop.set()

    def unload_all(self, timeout_seconds: float) -> None:
        """Drain every servable, for `timeout_seconds` at most in all."""
        deadline = time.monotonic() + timeout_seconds
        self._thread.join(timeout_seconds)
        for status in self._catalog.statuses():
            if status.state is State.AVAILABLE:
                self._unload(status, max(deadline - time.monotonic(), 0.0))

    def unready_reason(self) -> str:
        """Why the server is not ready; empty when it is.

        Until every model of the repository has an available version the server is not ready; once
        it was, a model that arrives broken does not take the others out of service.
        """
        if self._stop.is_set():
            return "draining"
        if not self._first_look_done:
            return "loading"
        statuses = self._catalog.statuses()
        available = {status.name for status in statuses if status.state is State.AVAILABLE}
        if not available:
            return "no model is available"
        missing = sorted({status.name for status in statuses} - available - self._held_back)
        if missing and not self._was_ready:
            return f"no version is available of: {', '.join(missing)}"
        self._was_ready = True
        return ""

    def reconcile(self) -> None:
        """Bring what is loaded in step with the repository, until nothing is left to do.

        Raises:
            RepositoryError: The repository cannot be read.
        """
        models = self._repository.models()
        known = {status.name for status in self._catalog.statuses()}
        for name in sorted(known.union(models)):
            with self._changing:
                self._reconcile_model(name)

    def load_model(self, name: str) -> None:
        """Load a model that was unloaded or has failed, or its new versions, at once.

        Raises:
            ModelNotFoundError: The repository has no such model.
            UnavailableError: It was tried, and no version of it can serve.
        """
        with self._changing:
            if name not in self._repository.models() or not self._repository.versions(name):
                raise ModelNotFoundError(f"the repository has no model '{quote(name)}'")
            self._held_back.discard(name)
            for status in self._catalog.statuses(name):
                if status.state is State.FAILED:
                    self._fingerprints.pop((name, status.version), None)
            self._reconcile_model(name)
        self._on_reconciled()
        statuses = self._catalog.statuses(name)
        if not any(status.state is State.AVAILABLE for status in statuses):
            reasons = "; ".join(f"version {one.version}: {one.reason}" for one in statuses)
            raise UnavailableError(f"model {name} cannot be loaded: {reasons}")

    def unload_model(self, name: str) -> None:
        """Unload every version of a model; it stays unloaded until it is asked for again.

        Raises:
            ModelNotFoundError: There is no such model.
        """
        with self._changing:
            if not self._catalog.statuses(name):
                raise ModelNotFoundError(f"there is no model '{quote(name)}'")
            self._held_back.add(name)
            self._reconcile_model(name)
        self._on_reconciled()

    def _reconcile_model(self, name: str) -> None:
        while not self._stop.is_set():
            actions = self._plan(name)
            for action in actions:
                self._carry_out(name, action)
            if not actions:
                break

    def _plan(self, name: str) -> list[Action]:
        on_disk = set(self._repository.versions(name))
        states = {}
        for status in self._catalog.statuses(name):
            changed = self._fingerprint(name, status.version) != self._fingerprints.get(
                (name, status.version)
            )
            # A failed version that was written anew deserves another try.
            retry = status.state is State.FAILED and status.version in on_disk and changed
            states[status.version] = State.UNLOADED if retry else status.state
        actions = plan(on_disk, states, VersionPolicy())
        if name in self._held_back:
            available = [one for one in states if states[one] is State.AVAILABLE]
            actions = [Action("unload", version) for version in available] + [
                action for action in actions if action.kind == "forget"
            ]
        return actions

    def _carry_out(self, name: str, action: Action) -> None:
        if action.kind == "load":
            self._load_version(name, action.version)
        elif action.kind == "unload":
            self._unload(self._catalog.status(name, action.version), timeout_seconds=60.0)
        else:
            self._catalog.forget(name, action.version)

    def _load_version(self, name: str, version: int) -> None:
        self._put(VersionStatus(name, version, State.LOADING))
        self._fingerprints[name, version] = self._fingerprint(name, version)
        try:
            servable = self._load(name, version)
        # Whatever is wrong with one version, the others go on.
        except Exception as error:
            reason = str(error) or type(error).__name__
            self._put(VersionStatus(name, version, State.FAILED, reason))
            logger.error("refused %s version %d: %s", name, version, reason)
            return
        self._put(VersionStatus(name, version, State.AVAILABLE, servable=servable))
        logger.info("available: %s", servable.describe())

    def _unload(self, status: VersionStatus, timeout_seconds: float) -> None:
        servable = status.servable
        if servable is None:
            return
        self._put(VersionStatus(status.name, status.version, State.DRAINING, servable=servable))
        if not servable.drain(timeout_seconds):
            logger.warning("%s version %d did not drain in time", status.name, status.version)
        self._put(VersionStatus(status.name, status.version, State.UNLOADED))
        logger.info("unloaded %s version %d", status.name, status.version)

    def _put(self, status: VersionStatus) -> None:
        self._catalog.put(status)
        self._on_change(status)

    def _fingerprint(self, name: str, version: int) -> object:
        """Changes when any file of a version does."""
        path = self._repository.version_path(name, version)
        try:
            files = sorted(path.rglob("*"))
            return [(str(file), file.stat().st_mtime_ns, file.stat().st_size) for file in files]
        except OSError:
            return None

    def _poll(self) -> None:
        while not self._stop.is_set():
            try:
                self.reconcile()
                self._first_look_done = True
                self._on_reconciled()
            except RepositoryError as error:
                logger.error("the repository cannot be read; serving what is loaded: %s", error)
            # The manager must outlive anything that one look at the repository brings.
            except Exception:
                logger.exception("looking at the repository failed; trying again later")
            self._stop.wait(self._poll_seconds)
