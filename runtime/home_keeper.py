"""Chooses the home core, and another one when other programs keep it busy.

The system moves threads between cores as these get busy, but must leave alone those that stay at
home. So somebody has to look.
"""

import contextlib
import logging
import os
import random
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from convd.runtime.home_core import HomeCore

logger = logging.getLogger(__name__)

_LOOK_SECONDS = 2.0

# What others take of the home core, over what is taken of another core, before it pays to move.
_WORTH_MOVING = 0.3

# Cores that differ by less are equally good: processes that choose at one time should not all
# choose the same.
_ALIKE = 0.1

_IDLE, _IO_WAIT, _GUEST = 3, 4, 8
"""Places in a line of /proc/stat; guest time is counted in user time already."""


class HomeKeeper:
    """Settles a process at a core, and looks after it from then on.

    Args:
        home: The home core of the process.
        place: Where in the row of cores to settle first, 0 to below 1, so that processes that start
            together settle apart.
        cores: Returns the cores that the process may run on.
        core_seconds: Returns how long each core of the machine has been busy.
        thread_seconds: Returns how long a thread of this process has been running, by its id.
        clock: A monotonic clock, in seconds.
    """

    def __init__(
        self,
        home: HomeCore,
        place: float,
        *,
        cores: Callable[[], set[int]] = lambda: os.sched_getaffinity(os.getpid()),
        core_seconds: Callable[[], Mapping[int, float]] | None = None,
        thread_seconds: Callable[[int], float] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._home = home
        self._place = place
        self._cores = cores
        self._core_seconds = core_seconds or busy_seconds
        self._thread_seconds = thread_seconds or running_seconds
        self._clock = clock
        self._looked_at = -float("inf")
        self._busy: Mapping[int, float] = {}
        self._own: dict[int, float] = {}

    def start(self) -> None:
        """Settle, and look from time to time in a thread of its own."""
        if self.settle():
            threading.Thread(target=self._keep_looking, name="home-keeper", daemon=True).start()

    def settle(self) -> bool:
        """Settle at a core; False where there is no choice, or none could be made later."""
        cores = self._cores()
        if len(cores) < 2:
            return False
        try:
            self.look()
        except OSError as error:
            logger.info("the threads that run Python stay on no core: %s", error)
            return False
        self._move(sorted(cores)[int(self._place * len(cores))], cores)
        return True

    def look(self) -> None:
        """Move if other programs have kept the home core busier than another one since last time.

        Raises:
            OSError: The system does not say how busy its cores are.
        """
        now, busy, cores = self._clock(), self._core_seconds(), self._cores()
        own = {tid: self._thread_seconds(tid) for tid in self._home.residents()}
        seconds = now - self._looked_at
        shares = {
            core: (busy[core] - self._busy[core]) / seconds
            for core in cores
            if core in busy and core in self._busy
        }
        own_share = sum(own[tid] - self._own.get(tid, 0.0) for tid in own) / seconds
        self._looked_at, self._busy, self._own = now, busy, own
        home = self._home.core
        if home is None or len(shares) < 2:
            return
        if home not in cores:
            self._move(min(shares, key=lambda core: shares[core]), cores)
            return
        better = better_home(shares, own_share, home)
        if better != home:
            self._move(better, cores)

    def _move(self, core: int, cores: set[int]) -> None:
        logger.debug("the threads that run Python stay on core %d", core)
        self._home.settle(core, frozenset(cores))

    def _keep_looking(self) -> None:
        while True:
            time.sleep(_LOOK_SECONDS)
            with contextlib.suppress(OSError):
                self.look()


def better_home(shares: Mapping[int, float], own_share: float, home: int) -> int:
    """The core at which the interpreter's threads would be disturbed least.

    Args:
        shares: How busy each core was, 0 to 1.
        own_share: How much of a core the threads at home took.
        home: The home core.

    Returns:
        The home core itself, unless another one is clearly better.
    """
    others = {core: share for core, share in shares.items() if core != home}
    least = min(others.values())
    if shares[home] - own_share - least < _WORTH_MOVING:
        return home
    return random.choice([core for core, share in others.items() if share < least + _ALIKE])  # noqa: S311


def busy_seconds() -> dict[int, float]:
    """How long each core of the machine has been busy.

    Raises:
        OSError: The system does not say.
    """
    tick_seconds = 1 / os.sysconf("SC_CLK_TCK")
    busy = {}
    for line in Path("/proc/stat").read_text().splitlines():
        name, *counts = line.split()
        if name.startswith("cpu") and name != "cpu":
            ticks = [int(count) for count in counts[:_GUEST]]
            busy[int(name[3:])] = (sum(ticks) - ticks[_IDLE] - ticks[_IO_WAIT]) * tick_seconds
    return busy


def running_seconds(tid: int) -> float:
    """How long a thread of this process has been running; 0 if it has ended."""
    try:
        return int(Path(f"/proc/self/task/{tid}/schedstat").read_text().split()[0]) / 1e9
    except OSError:
        return 0.0
