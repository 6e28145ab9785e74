"""The home core: where a process's threads that run Python stay together.

Only one thread runs Python at a time. Spread over several cores, a thread that is woken takes the
interpreter's lock in the instant in which another lets it go for a system call, and that one then
has to wait for it: a request costs 22 context switches between cores instead of 6 on one. On one
core, who is woken runs when the other has to wait anyway. See docs/decisions/0038-home-core.md.

What computes outside of the interpreter's lock, as networks and decoders do, leaves the home core.
"""

import contextlib
import os
import threading
from collections.abc import Iterator
from weakref import WeakSet


class HomeCore:
    """Keeps threads on one core.

    A process that has not called `settle` has no home core: every method then does nothing.
    Threads inherit the cores of the thread that creates them; each that matters says where it
    belongs.

    Attributes:
        core: The number of the home core; None while there is none.
    """

    def __init__(self) -> None:
        self.core: int | None = None
        self._all: frozenset[int] = frozenset()
        self._residents: WeakSet[threading.Thread] = WeakSet()
        self._away: set[int] = set()
        self._lock = threading.Lock()

    def settle(self, core: int, cores: frozenset[int]) -> None:
        """Make a core the home core; threads that stay at another one move.

        Args:
            core: One of `cores`.
            cores: The cores that the process may run on.
        """
        with self._lock:
            self.core, self._all = core, cores
            for thread in list(self._residents):
                tid = thread.native_id
                if thread.is_alive() and tid is not None and tid not in self._away:
                    _restrict(tid, {core})

    def cores(self) -> frozenset[int]:
        """The cores that the process may run on, whichever thread asks."""
        return self._all or frozenset(os.sched_getaffinity(0))

    def residents(self) -> list[int]:
        """System's ids of the threads that stay at home."""
        with self._lock:
            ids = [one.native_id for one in self._residents if one.is_alive()]
            return [tid for tid in ids if tid is not None]

    def stay(self, thread: threading.Thread | None = None) -> None:
        """Let a thread work at home from now on, by default the calling one."""
        if self.core is None:
            return
        thread = thread or threading.current_thread()
        with self._lock:
            self._residents.add(thread)
            if thread.native_id is not None:
                _restrict(thread.native_id, {self.core})

    def roam(self) -> None:
        """Let the calling thread, and those that it creates, run on every core from now on."""
        if self.core is None:
            return
        with self._lock:
            self._residents.discard(threading.current_thread())
            _restrict(threading.get_native_id(), self._all)

    @contextlib.contextmanager
    def roaming(self) -> Iterator[None]:
        """Let the calling thread, and those that it creates, run on every core for a while."""
        if self.core is None:
            yield
            return
        before = os.sched_getaffinity(0)
        _restrict(threading.get_native_id(), self._all)
        try:
            yield
        finally:
            _restrict(threading.get_native_id(), before)

    @contextlib.contextmanager
    def away(self) -> Iterator[None]:
        """Compute something long, outside of the interpreter's lock, on another core.

        A thread that does not stay at home remains where it is.
        """
        if self.core is None or threading.current_thread() not in self._residents:
            yield
            return
        tid = threading.get_native_id()
        others = self._all - {self.core}
        self._away.add(tid)
        # Where the others are taken, the home core computes too.
        _restrict(tid, others if len(self._away) <= len(others) else self._all)
        try:
            yield
        finally:
            self._away.discard(tid)
            _restrict(tid, {self.core})


HOME = HomeCore()
"""The home core of this process."""


def _restrict(tid: int, cores: set[int] | frozenset[int]) -> None:
    # The thread may have ended, and the cores of a container may have changed just now.
    with contextlib.suppress(OSError):
        os.sched_setaffinity(tid, cores)
