"""The runners of a model: which engine computes the next batch, and which runner takes it.

Where there are two engines, one computes a batch on all cores, and instances of the network compute
a batch on a core each (Triton's term; OpenVINO calls them streams). All cores answer a lone request
soonest. Instances answer more requests in the same time, since a core that is late keeps none of
the others waiting, but only if most of them have work. So few requests run on all cores, one batch
after another, and many run on instances.
"""

import enum
import math
import threading

from convd.runtime.cores import CoreRequest
from convd.service.batching.engine import Engine

WAIT_WEIGHT = 1 / 8


class Phase(enum.Enum):
    """What a runner does."""

    ASLEEP = "asleep"
    AWAKE = "awake"  # on its way to the rows that wait
    GATHERING = "gathering"  # lets more rows arrive, under max_queue_delay
    IN_LINE = "in line"  # waits for cores
    PAUSING = "pausing"  # leaves the cores to other models, unless a deadline is near
    RUNNING = "running"


class Runner:
    """Runs one batch of an engine at a time.

    Attributes:
        engine: What computes its batches.
        phase: What it does now.
        since: When it got in line or began its batch, or when its pause ends, in seconds of the
            monotonic clock.
        rows: Rows of its batch.
        cores: Its request for cores; None while it sleeps, and where it needs none.
        computed_seconds: How long its cores have computed since they were granted.
        wake: A lock that is held while the runner sleeps; released to wake it.
    """

    __slots__ = ("computed_seconds", "cores", "engine", "phase", "rows", "since", "wake")

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.phase = Phase.ASLEEP
        self.since = -math.inf
        self.rows = 0
        self.cores: CoreRequest | None = None
        self.computed_seconds = 0.0
        self.wake = threading.Lock()
        self.wake.acquire()

    def ends_at(self) -> float:
        """When its batch is expected to end."""
        return self.since + self.engine.costs.expected_seconds(self.rows)


class Runners:
    """All runners of a model: pure, without a lock or a clock.

    Args:
        engine: What runs batches; where there are instances, it takes all cores.
        instances: What runs them while requests are many, a core each; None for the same engine.

    Attributes:
        all: The runners.
        only: The runner of a model that has no other; None where there are several.
        engine: What runs batches that begin now.
        wait_seconds: How long runners have waited for their cores, on average over the last few.
    """

    def __init__(self, engine: Engine, instances: Engine | None = None) -> None:
        self.engine = self._all_cores = engine
        self._instances = instances
        self.all = [
            Runner(each)
            for each in (engine, instances)
            if each is not None
            for _ in range(each.max_concurrent_executions)
        ]
        self.only = self.all[0] if len(self.all) == 1 else None
        self.wait_seconds = 0.0

    def running(self) -> list[Runner]:
        """Those that run a batch."""
        return [runner for runner in self.all if runner.phase is Phase.RUNNING]

    def gathering(self) -> Runner | None:
        """The one that lets rows gather."""
        return next((runner for runner in self.all if runner.phase is Phase.GATHERING), None)

    def choose(self, requests: int) -> Engine:
        """Return what runs batches that begin while so many requests wait.

        Instances begin when there is work for all of them, and end when half of them would do.
        While most cores run single-core batches, a batch that needs every core would wait for the
        last of them and leave the rest idle, so an instance takes it.
        """
        if self._instances is None:
            return self._all_cores
        count = self._instances.max_concurrent_executions
        wanted = requests + len(self.running())
        begun = self.engine is self._instances
        if wanted >= count or (begun and 2 * wanted > count):
            return self._instances
        cores = self._instances.cores
        if cores is not None:
            own = sum(runner.cores is not None and runner.cores.granted for runner in self.all)
            if 2 * (cores.budget.running - own) > count:
                return self._instances
        return self._all_cores

    def can_start(self, engine: Engine) -> bool:
        """Whether a runner of an engine waits for nothing but cores."""
        own_engine = other_engine = False
        for runner in self.all:
            if runner.engine is not engine:
                other_engine = other_engine or runner.phase is Phase.RUNNING
            else:
                own_engine = own_engine or runner.phase is not Phase.RUNNING
        return own_engine and not other_engine

    def free_rows(self, engine: Engine) -> int:
        """Rows that runners of an engine will take at once."""
        free = sum(
            runner.engine is engine and runner.phase in (Phase.ASLEEP, Phase.AWAKE)
            for runner in self.all
        )
        return free * engine.max_batch_size

    def next_to_wake(self, requests: int) -> Runner | None:
        """A sleeping runner of the chosen engine, unless one is on its way for each request."""
        sleeping = None
        coming = 0
        for runner in self.all:
            if runner.engine is not self.engine:
                continue
            if runner.phase is Phase.ASLEEP:
                sleeping = sleeping or runner
            elif runner.phase is Phase.GATHERING:
                return None
            elif runner.phase is not Phase.RUNNING:
                coming += 1
        return sleeping if coming < requests else None

    def most_rows(self, runner: Runner, waiting_rows: int) -> int:
        """Return how many of the rows that wait a runner's batch may take.

        An instance takes no more than its share of all rows that are here: otherwise the first one
        would take all, and leave the others without work.
        """
        engine = runner.engine
        if engine is not self._instances:
            return engine.max_batch_size
        here = waiting_rows + sum(other.rows for other in self.running())
        return min(engine.max_batch_size, -(-here // engine.max_concurrent_executions))

    def others_ready(self, runner: Runner, now: float) -> list[float]:
        """Return when the other runners that are not asleep can start a batch."""
        if self.only is not None:
            return []
        ready = []
        for other in self.all:
            if other is runner or other.phase is Phase.ASLEEP:
                continue
            if other.phase is Phase.RUNNING:
                ready.append(max(now, other.ends_at()))
            elif other.phase is Phase.IN_LINE:
                ready.append(max(now, other.since + self.wait_seconds))
            else:
                ready.append(now)
        return ready

    def ready_times(self, engine: Engine, now: float) -> list[float]:
        """Return when each runner of an engine asks for its next cores, or has asked, in order.

        Batches of the other engine end first. A runner whose wait or batch is overdue may be ready
        at any moment, so it counts as ready now.
        """
        earliest = now - self.wait_seconds
        for runner in self.all:
            if runner.engine is not engine and runner.phase is Phase.RUNNING:
                earliest = max(earliest, runner.ends_at())
        ready = []
        for runner in self.all:
            if runner.engine is engine:
                moment = now
                if runner.phase is Phase.RUNNING:
                    moment = runner.ends_at()
                elif runner.phase is Phase.IN_LINE:
                    moment = runner.since
                ready.append(max(earliest, moment))
        return sorted(ready)

    def note_wait(self, seconds: float) -> None:
        """Learn how long a runner has waited for its cores."""
        self.wait_seconds += (seconds - self.wait_seconds) * WAIT_WEIGHT
