"""Shares the cores of a process among its sessions, so that they are never oversubscribed."""

import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

Granted = Callable[[], None]
"""Told that cores have come."""


def available_cores() -> int:
    """Cores that this process may run on; a container's share may be smaller than the machine."""
    return len(os.sched_getaffinity(0))


class CoreBudget:
    """Gives cores to batches while there are some left, first come first served.

    Every session has threads for as many cores as one batch can use. Two sessions that ran at the
    same time would want more cores than there are, and their threads would take turns in the middle
    of each other's operators: so a batch runs only when its cores have been granted.

    Nobody has to block for that: who finds too few cores free gets a place in the line, and is
    called when its turn has come. Its own lock is never held during such a call.

    Args:
        cores: Cores to share.

    Attributes:
        cores: Cores to share.
        running: Grants that have not been released.
    """

    def __init__(self, cores: int) -> None:
        self.cores = cores
        self.running = 0
        self._free = cores
        self._lock = threading.Lock()
        self._line: deque[tuple[int, Granted]] = deque()

    @property
    def busy(self) -> int:
        """Cores that are given away now."""
        return self.cores - self._free

    def request(self, threads: int, granted: Granted) -> bool:
        """Ask for cores, which have to be released once they have been granted.

        Args:
            threads: How many; more than there are count as all of them.
            granted: Called when they have come, if they are not free now, in the thread that
                releases others. It must not raise.

        Returns:
            Whether they are granted at once; then `granted` is not called.
        """
        cores = min(threads, self.cores)
        with self._lock:
            if self._line or cores > self._free:
                self._line.append((cores, granted))
                return False
            self._free -= cores
            self.running += 1
            return True

    def renew(self, threads: int, granted: Granted) -> bool:
        """Keep granted cores for one more batch, unless others wait: then line up behind them.

        Returns:
            Whether they are kept. If not, they still have to be released, and `granted` is called
            when they come again.
        """
        with self._lock:
            if self._line:
                self._line.append((min(threads, self.cores), granted))
                return False
            return True

    def release(self, threads: int) -> None:
        """Give cores back, and call those whose turn has come.

        Hold no lock that one of them may want.
        """
        with self._lock:
            self._free += min(threads, self.cores)
            self.running -= 1
            turns = self._admit() if self._line else []
        for granted in turns:
            granted()

    @contextmanager
    def take(self, threads: int) -> Iterator[None]:
        """Wait for cores, and keep them for a while."""
        turn = threading.Lock()
        turn.acquire()
        granted = turn.release
        if not self.request(threads, granted):
            try:
                turn.acquire()
            except BaseException:
                self._withdraw(threads, granted)
                raise
        try:
            yield
        finally:
            self.release(threads)

    def _admit(self) -> list[Granted]:
        """Give free cores to those in line, in order. The lock is held."""
        turns: list[Granted] = []
        while self._line and self._line[0][0] <= self._free:
            cores, granted = self._line.popleft()
            self._free -= cores
            self.running += 1
            turns.append(granted)
        return turns

    def _withdraw(self, threads: int, granted: Granted) -> None:
        """Undo the request of a thread that was interrupted while it waited."""
        place = (min(threads, self.cores), granted)
        with self._lock:
            waits = place in self._line
            if waits:
                self._line.remove(place)
            # Those behind it may want fewer cores than it did.
            turns = self._admit()
        for other in turns:
            other()
        if not waits:
            self.release(threads)


@dataclass(frozen=True, slots=True)
class CoreShare:
    """What each batch of one session takes from a budget.

    Attributes:
        budget: The budget.
        threads: Cores that one batch keeps busy.
    """

    budget: CoreBudget
    threads: int

    def request(self, granted: Granted) -> bool:
        """Ask for the cores of a batch, as `CoreBudget.request`."""
        return self.budget.request(self.threads, granted)

    def renew(self, granted: Granted) -> bool:
        """Keep them for one more, as `CoreBudget.renew`."""
        return self.budget.renew(self.threads, granted)

    def release(self) -> None:
        """Give them back, as `CoreBudget.release`."""
        self.budget.release(self.threads)
