"""The slots of a model: how many batches may run at once, on what, and whether there are cores.

A slot has its place in the line for cores, and not a thread: so a batch is formed when its cores
have come, of all that waits by then, and those who wait can leave whenever they like.

Where there are two engines, one computes a batch on all cores, and instances of the network compute
a batch on a core each (Triton's term; OpenVINO calls them streams). All cores answer a lone request
soonest. Instances answer more requests in the same time, since a core that is late then keeps none
of the others waiting, but only if most of them have something to do. So few requests run on all
cores, one batch after another, and many run on instances.
"""

import math
from collections import deque

from convd.runtime.cores import CoreShare, Granted
from convd.service.batching.engine import Engine

WAIT_WEIGHT = 1 / 8


class Slot:
    """The right to run one batch at a time.

    Attributes:
        engine: What runs its batch; it may change between two.
        rows: Rows of the batch that runs.
        started_at: When it started, in seconds of the monotonic clock; minus infinity between two.
        has_cores: Whether the cores for a batch have been granted.
        asked_at: When it lined up for its cores last.
    """

    __slots__ = ("asked_at", "engine", "has_cores", "rows", "started_at")

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.rows = 1
        self.started_at = -math.inf
        self.has_cores = False
        self.asked_at = -math.inf

    def ends_at(self) -> float:
        """When its batch is expected to end; minus infinity if none runs."""
        return self.started_at + self.engine.costs.expected_seconds(self.rows)


class Slots:
    """All slots of a model: each is idle, in line for cores, or busy.

    An idle slot and one in line belong to nobody, and have no cores. A busy one belongs to a
    thread; it has no cores only while its thread lets rows gather.

    Like the queue it has no thread and no lock: it asks for cores, which never blocks, and leaves
    it to the caller to release them.

    Args:
        engine: What runs batches; where there are instances, it takes all cores.
        instances: What runs them while requests are many, a core each; None for the same engine.

    Attributes:
        count: How many.
        idle: Slots that nobody needs.
        busy: Slots that threads have.
        in_line: Slots that wait for their cores, in order.
        running: How many of the busy ones run a batch.
        engine: What runs batches that begin now.
        wait_seconds: How long slots have waited for their cores, on average over the last few.
        surplus: Cores that no slot has any more, for the caller to take and release; None for none.
    """

    def __init__(self, engine: Engine, instances: Engine | None = None) -> None:
        self.engine = self._all_cores = engine
        self._instances = instances
        self.count = (instances or engine).max_concurrent_executions
        self.idle = [Slot(engine) for _ in range(self.count)]
        self.busy: list[Slot] = []
        self.in_line: deque[Slot] = deque()
        self.running = 0
        self.wait_seconds = 0.0
        self._granted: Granted = _nobody
        self.surplus: CoreShare | None = None

    def connect(self, granted: Granted | None) -> None:
        """Have `granted` called, from any thread, when cores have come for a slot in line.

        None lets go of who is called; no slot may ask for cores after that.
        """
        self._granted = granted or _nobody

    def engine_for(self, requests: int) -> Engine:
        """Return what runs batches that begin while so many requests wait.

        Instances begin when there is work for all of them, and end when half of them would do. Who
        waited for all cores while most of them run batches of one core each would have to wait
        until the last of these ends, and the others would stand idle.
        """
        if self._instances is None:
            return self._all_cores
        wanted = requests + self.running
        begun = self.engine is self._instances
        if wanted >= self.count or (begun and 2 * wanted > self.count):
            return self._instances
        cores = self._instances.cores
        if cores is not None:
            of_others = cores.budget.running - sum(slot.has_cores for slot in self.busy)
            if 2 * of_others > self.count:
                return self._instances
        return self._all_cores

    @property
    def available(self) -> int:
        """How many more slots may be taken now; less than 0 where there are too many."""
        return self.engine.max_concurrent_executions - self.count + len(self.idle)

    def free_for(self, engine: Engine) -> bool:
        """Whether a batch need not wait for another of this model before it runs on an engine."""
        if self.count - len(self.idle) >= engine.max_concurrent_executions:
            return False
        return self._instances is None or all(slot.engine is engine for slot in self.busy)

    def take(self) -> Slot:
        """Take an idle slot, without cores as yet."""
        slot = self.idle.pop()
        self.busy.append(slot)
        return slot

    def ask(self, slot: Slot, now: float) -> bool:
        """Ask for the cores of a busy slot; if they are not free, it gets in line."""
        slot.engine = self.engine
        if slot.engine.cores is None or slot.engine.cores.request(self._granted):
            slot.has_cores = True
            if self.wait_seconds:
                self._note_wait(0.0)
            return True
        self._line_up(slot, now)
        return False

    def renew(self, slot: Slot, now: float) -> bool:
        """Keep the cores of a busy slot; if others wait for some, it gets in line behind them.

        So it does if its next batch wants another number of cores.
        """
        if slot.engine is not self.engine:
            self.surrender(slot)
            return self.ask(slot, now)
        if slot.engine.cores is None or slot.engine.cores.renew(self._granted):
            if self.wait_seconds:
                self._note_wait(0.0)
            return True
        self.surrender(slot)
        self._line_up(slot, now)
        return False

    def grant(self, now: float) -> Slot:
        """Take the first slot out of the line: its cores have come."""
        slot = self.in_line.popleft()
        slot.has_cores = True
        self._note_wait(now - slot.asked_at)
        self.busy.append(slot)
        return slot

    def begin(self, slot: Slot, rows: int, now: float) -> None:
        """Note that the batch of a busy slot starts."""
        slot.rows = rows
        slot.started_at = now
        self.running += 1

    def end(self, slot: Slot) -> None:
        """Note that it has ended."""
        slot.started_at = -math.inf
        self.running -= 1

    def surrender(self, slot: Slot) -> None:
        """Take the cores from a busy slot, if it has some."""
        if slot.has_cores:
            slot.has_cores = False
            self.surplus = slot.engine.cores

    def free(self, slot: Slot) -> None:
        """Make a busy slot idle."""
        self.surrender(slot)
        self.busy.remove(slot)
        self.idle.append(slot)

    def most_rows(self, slot: Slot, waiting_rows: int) -> int:
        """Return how many of the rows that wait a slot's batch may take.

        An instance takes no more than its share of all rows that are here: otherwise the first one
        would take what waits, and the others would have nothing to do.
        """
        engine = slot.engine
        if engine is not self._instances:
            return engine.max_batch_size
        here = waiting_rows + sum(other.rows for other in self.busy if other.started_at > -math.inf)
        return min(engine.max_batch_size, -(-here // self.count))

    def others_ready(self, slot: Slot, now: float) -> list[float]:
        """Return when the other slots in use can start a batch."""
        if self.count == 1:
            return []
        ready = [max(now, other.ends_at()) for other in self.busy if other is not slot]
        return ready + [max(now, other.asked_at + self.wait_seconds) for other in self.in_line]

    def ready_times(self, now: float, engine: Engine) -> list[float]:
        """Return when slots ask for the cores of an engine, or have asked, in order; none is free.

        Nothing keeps a slot whose wait or batch is overdue from being ready now.
        """
        # Nothing runs on one engine beside the other.
        others = [slot.ends_at() for slot in self.busy if slot.engine is not engine]
        ready = [slot.ends_at() for slot in self.busy]
        ready += [max([slot.asked_at, *others]) for slot in self.in_line]
        ready += [max([now, *others])] * len(self.idle)
        ready = sorted(max(now - self.wait_seconds, moment) for moment in ready)
        # If there are too many, those that end first will be idle.
        return ready[-engine.max_concurrent_executions :]

    def _line_up(self, slot: Slot, now: float) -> None:
        slot.asked_at = now
        self.busy.remove(slot)
        self.in_line.append(slot)

    def _note_wait(self, seconds: float) -> None:
        self.wait_seconds += (seconds - self.wait_seconds) * WAIT_WEIGHT


def _nobody() -> None:
    """Nobody waits for cores."""
