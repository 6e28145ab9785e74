"""The combiner: the threads of the requests run the engine for one another.

There is no batching thread and no timer. A request that finds the engine idle runs at once in its
own thread. Those that arrive meanwhile wait, and when the batch ends, its thread hands the engine
to the first of them, whose thread takes all that wait, up to `max_batch_size`, and so on. Where the
cores are busy with another engine, whichever thread frees them hands this one on in that way. While
requests come from several sides, each batch first gives way to whoever is ready to run. The pattern
is that of Hendler, Incze, Shavit and Tzafrir, "Flat Combining and the
Synchronization-Parallelism Tradeoff", SPAA 2010.
"""

import math
import os
import threading
from collections.abc import Callable
from contextlib import nullcontext

import numpy as np

from convd.service.batching.engine import Engine, Outputs, Rows
from convd.service.batching.entry import FAILED, Entry, EntryState, Priority
from convd.service.batching.observer import BatchObserver, EntryTrace
from convd.service.batching.schedule import Schedule
from convd.service.batching.slots import Slot
from convd.service.errors import InferenceFailedError

_UNTRACED = nullcontext()


class Combiner:
    """Runs rows of many threads together.

    Args:
        schedule: Says who runs, and on which engine; from now on it is used under a lock only.
        clock: A monotonic clock, in seconds.
        observer: Hears of each batch.
    """

    def __init__(
        self,
        schedule: Schedule,
        *,
        clock: Callable[[], float],
        observer: BatchObserver,
    ) -> None:
        self._clock = clock
        self._observer = observer
        self._schedule = schedule
        # The lock guards the schedule, and with it every entry.
        self._lock = threading.Lock()
        self._use = _Use(schedule, self._lock)
        schedule.slots.connect(self._take_grant)

    def check(self, size: int, now: float, deadline: float, priority: Priority) -> None:
        """Refuse a request whose rows would be refused if they arrived now.

        Raises:
            UnavailableError: Draining or closed.
            QueueFullError: The rows do not fit.
            DeadlineExceededError: There is no time left to answer.
        """
        with self._lock:
            self._schedule.check(size, now, deadline, priority)

    def arrive(
        self,
        rows: Rows,
        now: float,
        deadline: float,
        priority: Priority,
        trace: EntryTrace | None = None,
    ) -> Slot | Entry:
        """Take the engine, to `run_alone`, or a place in the queue, to `wait`.

        Raises:
            UnavailableError: Draining or closed.
            QueueFullError: The rows do not fit.
            DeadlineExceededError: There is no time left to answer.
        """
        with self._lock:
            return self._schedule.arrive(rows, now, deadline, priority, trace)

    def run_alone(
        self, rows: Rows, slot: Slot, trace: EntryTrace | None = None
    ) -> tuple[Outputs, float, float]:
        """Run rows that found the engine idle, past the queue and without a copy.

        Returns:
            The outputs, the seconds that the engine took, and the time when it ended.

        Raises:
            InferenceFailedError: The engine failed.
        """
        started_at = slot.started_at
        traces = [trace] if trace is not None else []
        outcome = self._execute(slot.engine, [rows], len(rows), traces)
        with self._use:
            now = self._clock()
            self._schedule.finish_alone(slot, outcome, now)
        if isinstance(outcome, BaseException):
            if isinstance(outcome, Exception):
                raise InferenceFailedError(FAILED) from outcome
            raise outcome
        self._observer.batch_executed(len(rows), now - started_at)
        return outcome, now - started_at, now

    def wait(self, entry: Entry) -> None:
        """Wait until an entry is settled, and lead whenever its thread is given a slot."""
        try:
            while entry.state is EntryState.WAITING:
                slot = None
                if entry.wake.acquire(timeout=self._timeout_seconds(entry)):
                    slot = entry.slot
                else:
                    with self._use:
                        now = self._clock()
                        if now >= entry.deadline:
                            self._schedule.queue.drop(entry, EntryState.EXPIRED, now)
                            # A slot may have come with the deadline: it has to be passed on.
                            slot = entry.slot
                if slot is not None:
                    self._lead(entry, slot)
        except BaseException:
            with self._use:
                self._schedule.abandon(entry, self._clock())
            raise

    def cancel(self, entry: Entry) -> None:
        """Take an entry out and wake its thread; does nothing once it is settled."""
        with self._use:
            self._schedule.drop(entry, EntryState.CANCELLED, self._clock())

    def oldest_arrival(self) -> float:
        """When the entry that waits longest arrived; infinity if none waits."""
        with self._lock:
            return self._schedule.queue.oldest_arrival()

    def drain(self, timeout_seconds: float | None) -> bool:
        """Refuse arrivals, and wait until nothing waits or runs; False if that takes too long."""
        with self._use:
            self._schedule.accepting = False
            self._schedule.gathering.stop()
        return self._use.quiet.wait(timeout_seconds)

    def close(self) -> None:
        """Refuse arrivals and those that wait."""
        with self._use:
            self._schedule.accepting = False
            now = self._clock()
            for entry in list(self._schedule.queue.in_order()):
                self._schedule.drop(entry, EntryState.REFUSED, now)
            # Nobody will ask for cores. This also breaks the cycle of references, so that the
            # engine's memory is free as soon as nobody holds the batcher.
            self._schedule.slots.connect(None)

    def _take_grant(self) -> None:
        """Let a slot run whose cores have come. Called in any thread, without the lock."""
        with self._use:
            self._schedule.grant(self._clock())

    def _lead(self, entry: Entry, slot: Slot) -> None:
        """Run batches in a slot for as long as it stays with this thread."""
        leading = True
        while leading:
            if self._schedule.gathering.wanted:
                self._gather(entry)
            elif self._schedule.company:
                # Threads that are about to bring rows often wait for the core, or for the
                # interpreter's lock, that this one holds: one turn of theirs makes a batch of many.
                os.sched_yield()
            with self._use:
                started_at = self._clock()
                batch = self._schedule.start(entry, slot, started_at)
            if batch is None:
                return
            outcome = self._execute(slot.engine, batch.arrays, batch.rows, batch.traces)
            with self._use:
                ended_at = self._clock()
                leading = self._schedule.finish(entry, slot, batch, outcome, ended_at)
            if not isinstance(outcome, BaseException):
                self._observer.batch_executed(batch.rows, ended_at - started_at)
            elif not isinstance(outcome, Exception):
                raise outcome

    def _execute(
        self, engine: Engine, arrays: list[Rows], rows: int, traces: list[EntryTrace]
    ) -> Outputs | BaseException:
        try:
            with traces[0].batch(traces, rows) if traces else _UNTRACED:
                outputs = engine.run(arrays[0] if len(arrays) == 1 else np.concatenate(arrays))
            for output in outputs:
                if len(output) != rows:
                    raise ValueError(f"the engine answered {len(output)} rows to {rows}")
        # Whatever ended the engine, those who wait behind this batch must not wait for ever.
        except BaseException as error:
            return error
        return outputs

    def _gather(self, entry: Entry) -> None:
        """Let other rows join those that wait, for as long as the schedule says."""
        with self._use:
            # Who drains lets nobody wait for those who will not come.
            accepting = self._schedule.accepting
            seconds = self._schedule.gathering.start(entry, self._clock()) if accepting else 0.0
        if seconds > 0:
            told = entry.wake.acquire(timeout=min(seconds, threading.TIMEOUT_MAX))
            with self._use:
                self._schedule.gathering.end(entry, told=told)

    def _timeout_seconds(self, entry: Entry) -> float:
        if entry.deadline == math.inf:
            return -1
        return min(max(entry.deadline - self._clock(), 0.0), threading.TIMEOUT_MAX)


class _Use:
    """A use of the schedule, under the lock, that passes on what came of it.

    Args:
        schedule: The schedule.
        lock: Guards it.

    Attributes:
        quiet: Set once nothing waits or runs, and nothing will.
    """

    def __init__(self, schedule: Schedule, lock: threading.Lock) -> None:
        self.quiet = threading.Event()
        self._schedule = schedule
        self._slots = schedule.slots
        self._lock = lock

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *error: object) -> None:
        if not self._schedule.accepting and self._schedule.quiet:
            self.quiet.set()
        surplus, self._slots.surplus = self._slots.surplus, None
        self._lock.release()
        if surplus is not None:
            # This calls the combiners whose turn has come, each of which takes its own lock.
            surplus.release()
