"""Shares the cores of a process among its sessions, so that they are never oversubscribed."""

import os
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager


def available_cores() -> int:
    """Cores that this process may run on; a container's share may be smaller than the machine."""
    return len(os.sched_getaffinity(0))


class CoreBudget:
    """Lets batches run while cores are left, first come first served.

    Every session has threads for as many cores as one batch can use. Two sessions that ran at the
    same time would want more cores than there are, and their threads would take turns in the middle
    of each other's operators: so a batch waits here for its cores instead.

    Args:
        cores: Cores to share.

    Attributes:
        cores: Cores to share.
        running: Batches that have their cores now.
    """

    def __init__(self, cores: int) -> None:
        self.cores = cores
        self.running = 0
        self._free = cores
        self._lock = threading.Lock()
        self._waiting: deque[tuple[int, threading.Lock]] = deque()

    @property
    def busy(self) -> int:
        """Cores that are given away now."""
        return self.cores - self._free

    @contextmanager
    def take(self, threads: int) -> Iterator[None]:
        """Wait for cores, and keep them for a while.

        Args:
            threads: How many; more than there are count as all of them. 0 never waits.
        """
        cores = min(threads, self.cores)
        turn: threading.Lock | None = None
        with self._lock:
            if not self._waiting and cores <= self._free:
                self._free -= cores
                self.running += 1
            else:
                turn = threading.Lock()
                turn.acquire()
                self._waiting.append((cores, turn))
        try:
            if turn is not None:
                turn.acquire()
        except BaseException:
            self._withdraw(cores, turn)
            raise
        try:
            yield
        finally:
            with self._lock:
                self._free += cores
                self.running -= 1
                self._admit()

    def _admit(self) -> None:
        """Give free cores to those who wait, in order. The lock is held."""
        while self._waiting and self._waiting[0][0] <= self._free:
            cores, turn = self._waiting.popleft()
            self._free -= cores
            self.running += 1
            turn.release()

    def _withdraw(self, cores: int, turn: "threading.Lock | None") -> None:
        """Undo the wait of a thread that was interrupted."""
        with self._lock:
            for waiting in self._waiting:
                if waiting[1] is turn:
                    self._waiting.remove(waiting)
                    break
            else:
                self._free += cores
                self.running -= 1
            self._admit()
