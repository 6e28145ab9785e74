"""Work of low priority: it runs while a model has nothing else to do, and gives way at once.

It never shares a batch with other rows, and waits until the model has been without work for a
moment, since under load the next requests are on their way while the last answers leave. A batch
that runs when a request arrives is interrupted, and begins again later.
"""

import math
from collections import OrderedDict

from convd.runtime.interruption import InterruptedRunError, Interruption
from convd.service.batching.entry import Batch, Entry, EntryState

QUIET_SECONDS = 0.05
"""How long a model has to be without other work first."""


class IdleWork:
    """Entries of low priority of one model: pure, without a lock or a clock.

    Attributes:
        busy_until: When the last batch of other work ended, in seconds of the monotonic clock.
        running: The batch that runs now; None if none does.
        waiting: Entries that wait, in order.
    """

    def __init__(self) -> None:
        self.busy_until = -math.inf
        self.running: Batch | None = None
        # As a set: an entry leaves from the middle in constant time.
        self.waiting: OrderedDict[Entry, None] = OrderedDict()

    def push(self, entry: Entry) -> None:
        """Let an entry wait."""
        self.waiting[entry] = None

    def seconds_to_wait(self, now: float) -> float:
        """How long until the next batch may begin; infinity if nothing waits."""
        return max(0.0, self.busy_until + QUIET_SECONDS - now) if self.waiting else math.inf

    def begin(self, now: float) -> tuple[Batch | None, list[Entry]]:
        """Take the entry that has waited longest as a batch of its own.

        Returns:
            The batch, None if nothing waits any more; and the entries that are too late.
        """
        late = []
        while self.waiting:
            entry, _ = self.waiting.popitem(last=False)
            if entry.deadline <= now:
                late.append(entry)
                continue
            rows = entry.rows
            assert rows is not None, "an entry that waits has its rows"  # noqa: S101
            batch = Batch()
            batch.arrays, batch.owners, batch.rows = [rows], [entry], entry.size
            batch.extras, batch.interruption = entry.extras, Interruption()
            entry.pieces, entry.collected = [(batch, 0, entry.size)], entry.size
            self.running = batch
            return batch, late
        return None, late

    def end(self, batch: Batch, outcome: object) -> bool:
        """Note that a batch has ended; one that was interrupted waits again.

        Returns:
            Whether it has ended for good.
        """
        self.running = None
        (entry,) = batch.owners
        if not isinstance(outcome, InterruptedRunError) or entry.state is not EntryState.WAITING:
            return True
        entry.pieces, entry.collected = [], 0
        entry.rows = batch.arrays[0]
        self.waiting[entry] = None
        self.waiting.move_to_end(entry, last=False)
        return False

    def interrupt(self) -> None:
        """End the batch that runs."""
        if self.running is not None and self.running.interruption is not None:
            self.running.interruption.set()

    def forget(self, entry: Entry) -> None:
        """Take an entry out, wherever it stands; does nothing if it is not here."""
        if self.running is not None and entry in self.running.owners:
            self.interrupt()
        else:
            self.waiting.pop(entry, None)

    def take_all(self) -> list[Entry]:
        """Take out every entry, and interrupt the one that runs."""
        self.interrupt()
        running = [] if self.running is None else self.running.owners
        entries = [*running, *self.waiting]
        self.waiting.clear()
        return entries
