"""The slots of an engine: how many batches may run at once, and whether there are cores for them.

A slot has its place in the line for cores, and not a thread: so a batch is formed when its cores
have come, of all that waits by then, and those who wait can leave whenever they like.
"""

import math
from collections import deque

from runtime.cores import CoreShare, Granted
from service.batching.planning import ExpectedSeconds

WAIT_WEIGHT = 1 / 8


class Slot:
    """The right to run one batch at a time.

    Attributes:
        rows: Rows of the batch that runs.
        started_at: When it started, in seconds of the monotonic clock; minus infinity between two.
        has_cores: Whether the cores for a batch have been granted.
        asked_at: When it lined up for its cores last.
    """

    __slots__ = ("asked_at", "has_cores", "rows", "started_at")

    def __init__(self) -> None:
        self.rows = 1
        self.started_at = -math.inf
        self.has_cores = False
        self.asked_at = -math.inf


class Slots:
    """All slots of an engine: each is idle, in line for cores, or busy.

    An idle slot and one in line belong to nobody, and have no cores. A busy one belongs to a
    thread; it has no cores only while its thread lets rows gather.

    Like the queue it has no thread and no lock: it asks for cores, which never blocks, and leaves
    it to the caller to release them.

    Args:
        count: How many.
        cores: What a batch takes; None where it takes none.

    Attributes:
        count: How many.
        idle: Slots that nobody needs.
        busy: Slots that threads have.
        in_line: Slots that wait for their cores, in order.
        wait_seconds: How long slots have waited for their cores, on average over the last few.
    """

    def __init__(self, count: int, cores: CoreShare | None) -> None:
        self.count = count
        self.idle = [Slot() for _ in range(count)]
        self.busy: list[Slot] = []
        self.in_line: deque[Slot] = deque()
        self.wait_seconds = 0.0
        self._cores = cores
        self._granted: Granted = _nobody
        self._surplus: CoreShare | None = None

    def connect(self, granted: Granted | None) -> None:
        """Have `granted` called, from any thread, when cores have come for a slot in line.

        None lets go of who is called; no slot may ask for cores after that.
        """
        self._granted = granted or _nobody

    def take_surplus(self) -> CoreShare | None:
        """Return cores that no slot has any more, for the caller to release; None for none."""
        surplus, self._surplus = self._surplus, None
        return surplus

    def take(self) -> Slot:
        """Take an idle slot, without cores as yet."""
        slot = self.idle.pop()
        self.busy.append(slot)
        return slot

    def ask(self, slot: Slot, now: float) -> bool:
        """Ask for the cores of a busy slot; if they are not free, it gets in line."""
        if self._cores is None or self._cores.request(self._granted):
            slot.has_cores = True
            if self.wait_seconds:
                self._note_wait(0.0)
            return True
        self._line_up(slot, now)
        return False

    def renew(self, slot: Slot, now: float) -> bool:
        """Keep the cores of a busy slot; if others wait for some, it gets in line behind them."""
        if self._cores is None or self._cores.renew(self._granted):
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

    def surrender(self, slot: Slot) -> None:
        """Take the cores from a busy slot, if it has some."""
        if slot.has_cores:
            slot.has_cores = False
            self._surplus = self._cores

    def free(self, slot: Slot) -> None:
        """Make a busy slot idle."""
        self.surrender(slot)
        self.busy.remove(slot)
        self.idle.append(slot)

    def asks_at(self, now: float, expected_seconds: ExpectedSeconds) -> float:
        """Return when the first slot asks for cores, or has asked; there is no idle one.

        Nothing keeps a slot whose wait or batch is overdue from being ready now.
        """
        ends = [slot.started_at + expected_seconds(slot.rows) for slot in self.busy]
        return max(now - self.wait_seconds, min([*ends, *(slot.asked_at for slot in self.in_line)]))

    def _line_up(self, slot: Slot, now: float) -> None:
        slot.asked_at = now
        self.busy.remove(slot)
        self.in_line.append(slot)

    def _note_wait(self, seconds: float) -> None:
        self.wait_seconds += (seconds - self.wait_seconds) * WAIT_WEIGHT


def _nobody() -> None:
    """Nobody waits for cores."""
