"""Shares the cores of a process among its sessions, so that they are never oversubscribed.

Every session has threads for as many cores as one batch can use. Two sessions that ran at the same
time would want more cores than there are, and their threads would take turns in the middle of each
other's operators. So a batch runs only once its cores have been granted.

Cores are shared by time, not by turn: the next grant goes to the account that has had the least
computing time, so a small network next to large ones is answered between two of their batches. This
is stride scheduling (Waldspurger and Weihl, "Stride Scheduling: Deterministic Proportional-Share
Resource Management", MIT/LCS/TM-528, 1995) with measured time in place of a quantum.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from convd.runtime.cgroup import cpu_quota
from convd.runtime.home_core import HOME
from convd.runtime.idleness import Idleness


def available_cores() -> int:
    """Cores that this process may keep busy: those it may run on, and no more than its quota."""
    return cores_of_quota(len(HOME.cores()), cpu_quota())


def cores_of_quota(cores: int, quota: float | None) -> int:
    """Whole cores of a quota; with one thread more, the kernel would stop all of them in turn.

    Args:
        cores: Cores that the process may run on.
        quota: Cores' time that it may use; None for all.
    """
    return cores if quota is None else min(cores, max(1, int(quota)))


class CoreAccount:
    """The computing time of one model.

    Attributes:
        core_seconds: Cores times seconds so far, or more: an account that was idle does not save
            up time, it begins where the others stand.
        requests: Requests that wait or hold cores.
    """

    __slots__ = ("core_seconds", "requests")

    def __init__(self) -> None:
        self.core_seconds = 0.0
        self.requests = 0


class CoreRequest:
    """A request for the cores of one batch.

    Attributes:
        account: Whose computing time it is.
        cores: How many cores.
        granted: Whether they have been granted.
    """

    __slots__ = ("_turn", "account", "cores", "granted")

    def __init__(self, account: CoreAccount, cores: int) -> None:
        self.account = account
        self.cores = cores
        self.granted = False
        self._turn = threading.Lock()
        self._turn.acquire()

    def grant(self) -> None:
        """Let whoever waits go on."""
        self.granted = True
        self._turn.release()

    def wait(self) -> None:
        """Block until the cores have been granted."""
        self._turn.acquire()


class CoreLine:
    """Decides which request gets cores next: pure, without a lock or a clock.

    The request of the account with the least computing time comes first; of equals, the first that
    asked. A request that needs more cores than are free is not overtaken, or a batch that needs
    every core would never run next to batches that need one.

    Args:
        cores: Cores to share.

    Attributes:
        free: Cores that nobody holds.
        running: Requests that hold cores.
        waiting: Requests that wait, in the order in which they asked.
    """

    def __init__(self, cores: int) -> None:
        self.free = cores
        self.running = 0
        self.waiting: list[CoreRequest] = []
        self._latest_core_seconds = 0.0

    def ask(self, request: CoreRequest) -> None:
        """Add a request, and grant it at once if it is the next and fits."""
        account = request.account
        if not account.requests:
            account.core_seconds = max(account.core_seconds, self._latest_core_seconds)
        account.requests += 1
        self.waiting.append(request)
        self._grant()

    def give_back(self, request: CoreRequest, seconds: float) -> None:
        """Take the cores of a granted request back, and grant those that are next."""
        request.account.core_seconds += request.cores * seconds
        request.account.requests -= 1
        self.free += request.cores
        self.running -= 1
        self._grant()

    def renew(self, request: CoreRequest, seconds: float) -> CoreRequest:
        """Give cores back and ask for as many again, before anyone else is granted them.

        Otherwise models would take turns by batch, however long their batches are: whenever one
        ends, another is all that waits.
        """
        again = CoreRequest(request.account, request.cores)
        again.account.requests += 1
        self.waiting.append(again)
        self.give_back(request, seconds)
        return again

    def withdraw(self, request: CoreRequest) -> bool:
        """Take a request out of the line; False if it has been granted."""
        if request.granted:
            return False
        self.waiting.remove(request)
        request.account.requests -= 1
        # Those behind it may need fewer cores than it did.
        self._grant()
        return True

    def _grant(self) -> None:
        while self.waiting:
            first = min(self.waiting, key=_core_seconds)
            if first.cores > self.free:
                return
            self.waiting.remove(first)
            self.free -= first.cores
            self.running += 1
            self._latest_core_seconds = max(self._latest_core_seconds, first.account.core_seconds)
            first.grant()


def _core_seconds(request: CoreRequest) -> float:
    return request.account.core_seconds


class CoreBudget:
    """The cores of a process; safe for threads.

    Args:
        cores: Cores to share.

    Attributes:
        cores: Cores to share.
        idleness: Whether they have anything to do but work of low priority.
    """

    def __init__(self, cores: int) -> None:
        self.cores = cores
        self.idleness = Idleness()
        self._line = CoreLine(cores)
        self._lock = threading.Lock()
        self._loading = CoreAccount()

    @property
    def busy(self) -> int:
        """Cores that are held now."""
        return self.cores - self._line.free

    @property
    def free(self) -> int:
        """Cores that nobody holds now."""
        return self._line.free

    @property
    def running(self) -> int:
        """Requests that hold cores now."""
        return self._line.running

    def request(self, account: CoreAccount, threads: int) -> CoreRequest:
        """Ask for cores. Wait for them if they are not granted at once, and release them.

        Args:
            account: Whose computing time it is.
            threads: How many; more than there are count as all of them.
        """
        request = CoreRequest(account, min(threads, self.cores))
        with self._lock:
            self._line.ask(request)
        return request

    def release(self, request: CoreRequest, seconds: float) -> None:
        """Give the cores of a granted request back.

        Args:
            request: The request.
            seconds: How long they computed.
        """
        with self._lock:
            self._line.give_back(request, seconds)

    def renew(self, request: CoreRequest, seconds: float) -> CoreRequest:
        """Give cores back and ask for as many again, as for the next batch of the same model."""
        with self._lock:
            return self._line.renew(request, seconds)

    @contextmanager
    def take(self, threads: int) -> Iterator[None]:
        """Wait for cores, and keep them for a while: for a model that is being loaded."""
        request = self.request(self._loading, threads)
        try:
            request.wait()
        except BaseException:
            with self._lock:
                withdrawn = self._line.withdraw(request)
            if not withdrawn:
                self.release(request, 0.0)
            raise
        began = time.monotonic()
        try:
            yield
        finally:
            self.release(request, time.monotonic() - began)


@dataclass(frozen=True, slots=True)
class CoreShare:
    """What each batch of one session takes from a budget.

    Attributes:
        budget: The budget.
        threads: Cores that one batch keeps busy.
    """

    budget: CoreBudget
    threads: int

    @property
    def is_free(self) -> bool:
        """Whether a batch would have its cores at once."""
        return self.budget.free >= min(self.threads, self.budget.cores)
