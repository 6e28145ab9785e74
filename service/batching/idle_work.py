"""Work of low priority: it runs while the cores have nothing else to do, and gives way at once.

It never shares a batch with other rows, and waits until no model on its cores has had work for a
moment, since under load the next requests are on their way while the last answers leave. A batch
that runs when a request for any of these models arrives is interrupted between two operators, and
begins again later. That request waits for one operator, and an operator takes the longer, the more
rows a batch has: so batches have one row at first, and grow with the time that has been quiet.
"""

import math
from collections import OrderedDict
from collections.abc import Callable

from convd.runtime.idleness import Idleness
from convd.runtime.interruption import InterruptedRunError, Interruption
from convd.service.batching.entry import Batch, Entry, EntryState

QUIET_SECONDS = 0.05
"""How long there has to be no other work first."""

SHARE_OF_QUIET = 1 / 20
"""How long a batch of several rows may take, in proportion to how long it has been quiet.

If nothing is known of the arrivals but a quiet time, a request comes in the next twentieth of it
with a probability of about 1/20 (Laplace's rule of succession)."""

LONGEST_BATCH_SECONDS = 0.05
"""However quiet it has been: some providers finish the batch when it is interrupted."""


class IdleWork:
    """Entries of low priority of one model: pure, without a lock or a clock.

    Args:
        idleness: Of the cores that the model computes on.

    Attributes:
        running: The batch that runs now; None if none does.
        waiting: Entries that wait, in order.
    """

    def __init__(self, idleness: Idleness) -> None:
        self._idleness = idleness
        self.running: Batch | None = None
        # As a set: an entry leaves from the middle in constant time.
        self.waiting: OrderedDict[Entry, None] = OrderedDict()

    def push(self, entry: Entry) -> None:
        """Let an entry wait."""
        self.waiting[entry] = None

    def seconds_to_wait(self, now: float) -> float:
        """How long until the next batch may begin; infinity if nothing waits."""
        if not self.waiting:
            return math.inf
        return max(0.0, self._idleness.busy_until + QUIET_SECONDS - now)

    def begin(
        self, now: float, expected_seconds: Callable[[int], float], max_rows: int
    ) -> tuple[Batch | None, list[Entry]]:
        """Take rows of the entry that has waited longest as a batch of their own.

        Args:
            now: The time, in seconds of the monotonic clock.
            expected_seconds: How long a batch of so many rows takes.
            max_rows: Maximum rows of a batch.

        Returns:
            The batch, None if nothing waits any more; and the entries that are too late.
        """
        late = []
        while self.waiting:
            entry = next(iter(self.waiting))
            if entry.deadline <= now:
                del self.waiting[entry]
                late.append(entry)
                continue
            array = entry.rows
            assert array is not None, "an entry that waits has its rows"  # noqa: S101
            seconds = min(LONGEST_BATCH_SECONDS, SHARE_OF_QUIET * (now - self._idleness.busy_until))
            most = min(max_rows, entry.size - entry.collected)
            rows = 1
            while rows < most and expected_seconds(rows + 1) <= seconds:
                rows += 1
            batch = Batch()
            batch.arrays, batch.owners = [array[entry.collected : entry.collected + rows]], [entry]
            batch.rows, batch.extras, batch.interruption = rows, entry.extras, Interruption()
            self._idleness.running.add(batch.interruption)
            entry.pieces.append((batch, 0, rows))
            entry.collected += rows
            if entry.collected == entry.size:
                del self.waiting[entry]
            self.running = batch
            return batch, late
        return None, late

    def end(self, batch: Batch, outcome: object) -> bool:
        """Note that a batch has ended; one that was interrupted waits again.

        Returns:
            Whether it has ended for good.
        """
        self.running = None
        if batch.interruption is not None:
            self._idleness.running.discard(batch.interruption)
        (entry,) = batch.owners
        if not isinstance(outcome, InterruptedRunError) or entry.state is not EntryState.WAITING:
            if isinstance(outcome, BaseException):
                # Its other rows need not run any more.
                self.waiting.pop(entry, None)
            return True
        entry.pieces.pop()
        entry.collected -= batch.rows
        self.waiting[entry] = None
        self.waiting.move_to_end(entry, last=False)
        return False

    def interrupt(self) -> None:
        """End the batch that runs."""
        if self.running is not None and self.running.interruption is not None:
            self.running.interruption.set()

    def forget(self, entry: Entry) -> None:
        """Take an entry out, wherever it stands; does nothing if it is not here."""
        self.waiting.pop(entry, None)
        if self.running is not None and entry in self.running.owners:
            self.interrupt()

    def take_all(self) -> list[Entry]:
        """Take out every entry, and interrupt the one that runs."""
        self.interrupt()
        running = [] if self.running is None else self.running.owners
        entries = list(dict.fromkeys([*running, *self.waiting]))
        self.waiting.clear()
        return entries
