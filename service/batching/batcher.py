"""The batcher: runs rows of concurrent requests together, one runner thread for each execution.

It drives the schedule with real threads: callers wait for their entry to be settled, runners do the
steps of their life. One lock guards the schedule, and is never held while anything waits or runs.
"""

import math
import os
import threading
import time
from collections.abc import Callable
from functools import partial

import numpy as np

from convd.artifact.graph_contract import NO_EXTRAS, Extras
from convd.runtime.home_core import HOME
from convd.service.batching.engine import Engine, Outputs, Rows
from convd.service.batching.entry import (
    GONE,
    LATE,
    Batch,
    BatchedResult,
    Entry,
    EntryState,
    EntryTrace,
    Priority,
)
from convd.service.batching.runners import Runner
from convd.service.batching.schedule import GiveWay, Schedule, Sleep, Step, StepOutcome
from convd.service.cancellation import Cancellation
from convd.service.errors import (
    CallerGoneError,
    DeadlineExceededError,
    InvalidRequestError,
    QueueFullError,
)


class BatchObserver:
    """Hears what a batcher does; this base ignores it all, so override what you count.

    Every method is called without the batcher's lock. How many rows wait is a property of the
    batcher, to be read when metrics are collected.
    """

    def batch_executed(self, rows: int, inference_seconds: float) -> None:
        """A batch of `rows` rows ended well."""

    def rejected(self, rows: int) -> None:
        """An arriving entry was refused: the queue is full, or there is no time to answer."""

    def expired(self, rows: int) -> None:
        """An accepted entry's deadline passed before its answer."""

    def cancelled(self, rows: int) -> None:
        """An entry's caller went before its answer."""


class Batcher:
    """Combines rows of concurrent requests into batches.

    Its threads are started by the first request, and end with `close`.

    Args:
        engine: What runs the batches. Entries larger than one are split.
        instances: What runs them while requests are many, a core each; None for the same engine.
        max_queue_size: Maximum rows that wait while no runner is free.
        max_queue_delay_seconds: How long rows may wait for others to join them; 0 for not at all,
            as it has to be where there are instances.
        clock: A monotonic clock, in seconds.
        observer: Hears what happens, for metrics.
        name: What the names of its threads begin with.
    """

    def __init__(
        self,
        engine: Engine,
        instances: Engine | None = None,
        *,
        max_queue_size: int,
        max_queue_delay_seconds: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
        observer: BatchObserver | None = None,
        name: str = "runner",
    ) -> None:
        self._max_entry_size = max(engine.max_batch_size, max_queue_size)
        self._clock = clock
        self._observer = observer or BatchObserver()
        self._name = name
        self._started = False
        self._lock = threading.Lock()
        self._quiet = threading.Event()
        self._schedule = Schedule(
            engine,
            instances,
            max_queue_size=max_queue_size,
            max_queue_delay_seconds=max_queue_delay_seconds,
            clock=clock,
            on_quiet=self._quiet.set,
        )
        self._queue = self._schedule.queue

    @property
    def waiting_rows(self) -> int:
        """Rows that wait for a runner now."""
        return self._queue.waiting_rows

    @property
    def max_queue_size(self) -> int:
        """Maximum rows that wait while no runner is free."""
        return self._schedule.max_queue_size

    @property
    def oldest_wait_seconds(self) -> float:
        """How long the oldest row that waits now has waited; 0 where none waits."""
        with self._lock:
            oldest = self._queue.oldest_arrival()
        return max(0.0, self._clock() - oldest)

    @property
    def batch_seconds(self) -> float:
        """How long the batch that runs longest has been running; 0 where none runs."""
        with self._lock:
            began = [runner.since for runner in self._schedule.runners.running()]
        return self._clock() - min(began) if began else 0.0

    def check(
        self, size: int, *, deadline: float | None = None, priority: Priority = Priority.NORMAL
    ) -> None:
        """Refuse a request before its rows are made, if they would be refused anyway.

        Args:
            size: How many rows it will have.
            deadline: As for `submit`.
            priority: As for `submit`.

        Raises:
            UnavailableError: The batcher is draining or closed.
            QueueFullError: The rows do not fit into the queue.
            DeadlineExceededError: The deadline would pass before the answer.
        """
        until = math.inf if deadline is None else deadline
        try:
            with self._lock:
                self._schedule.check(size, self._clock(), until, priority)
        except (QueueFullError, DeadlineExceededError):
            self._observer.rejected(size)
            raise

    def submit(
        self,
        rows: Rows,
        *,
        deadline: float | None = None,
        priority: Priority = Priority.NORMAL,
        cancellation: Cancellation | None = None,
        trace: EntryTrace | None = None,
        admitted: bool = False,
        extras: Extras = NO_EXTRAS,
    ) -> BatchedResult:
        """Run rows, together with those of others, and wait for the answer.

        Args:
            rows: uint8 `[n, height, width, channels]`, n at least 1; all entries of a batcher have
                the same row shape. Rows that run alone reach the engine without a copy.
            deadline: When the answer becomes useless, on the batcher's clock; None for never.
            priority: Level of priority.
            cancellation: Tells when the caller has gone.
            trace: Follows the rows; None where they are not traced.
            admitted: Whether `check` has admitted the request; it is not asked twice.
            extras: The optional outputs to compute as well.

        Returns:
            The outputs of the rows, in order, with timings.

        Raises:
            InvalidRequestError: There is no row, or more than can ever wait.
            UnavailableError: The batcher is draining or closed.
            QueueFullError: The rows do not fit into the queue.
            DeadlineExceededError: The deadline has passed, or would pass before the answer.
            CallerGoneError: `cancellation` was cancelled.
            InferenceFailedError: The engine raised, or answered another number of rows.
        """
        size = len(rows)
        if not 0 < size <= self._max_entry_size:
            raise InvalidRequestError(
                f"a request has 1 to {self._max_entry_size} images, not {size}"
            )
        now = self._clock()
        until = math.inf if deadline is None else deadline
        if cancellation is not None and cancellation.cancelled:
            self._observer.cancelled(size)
            raise CallerGoneError(GONE)
        if until <= now:
            self._observer.expired(size)
            raise DeadlineExceededError(LATE)
        entry = Entry(rows, now, until, priority, trace, extras)
        try:
            with self._lock:
                self._schedule.arrive(entry, admitted=admitted)
                locks, self._queue.locks = self._queue.locks, []
        except (QueueFullError, DeadlineExceededError):
            self._observer.rejected(size)
            raise
        for lock in locks:
            lock.release()
        if not self._started:
            self._start()
        if cancellation is not None:
            cancellation.listener = partial(self._drop, entry, EntryState.CANCELLED)
            if cancellation.cancelled:
                self._drop(entry, EntryState.CANCELLED)
        try:
            if until == math.inf:
                entry.settled.acquire()
            else:
                self._wait(entry)
        except BaseException:
            self._drop(entry, EntryState.CANCELLED)
            raise
        finally:
            if cancellation is not None:
                cancellation.listener = None
        if entry.state is EntryState.EXPIRED:
            self._observer.expired(size)
        # Rows of low priority make room for a request, and are often sent again.
        elif entry.state is EntryState.CANCELLED and priority is not Priority.LOW:
            self._observer.cancelled(size)
        return entry.result()

    def drain(self, timeout_seconds: float | None = None) -> bool:
        """Refuse new entries, and wait until those that were accepted have ended.

        Args:
            timeout_seconds: How long to wait; None for as long as it takes.

        Returns:
            Whether all have ended.
        """
        self._do(self._schedule.drain)
        return self._quiet.wait(timeout_seconds)

    def close(self) -> None:
        """Refuse new entries and those that wait; a batch that runs already ends by itself."""
        self._do(self._schedule.close)

    def _wait(self, entry: Entry) -> None:
        """Wait for an entry that has a deadline."""
        seconds = entry.deadline - entry.arrived_at
        while not entry.settled.acquire(timeout=min(seconds, threading.TIMEOUT_MAX)):
            seconds = entry.deadline - self._clock()
            if seconds <= 0:
                self._drop(entry, EntryState.EXPIRED)
                return

    def _drop(self, entry: Entry, state: EntryState) -> None:
        self._do(partial(self._schedule.drop, entry, state))

    def _do(self, change: Callable[[], None]) -> None:
        with self._lock:
            change()
            locks, self._queue.locks = self._queue.locks, []
        for lock in locks:
            lock.release()

    def _start(self) -> None:
        with self._lock:
            if self._started:
                return
            self._started = True
        for index, runner in enumerate(self._schedule.runners.all):
            threading.Thread(
                target=self._run, args=(runner,), name=f"{self._name}-{index}", daemon=True
            ).start()

    def _run(self, runner: Runner) -> None:
        """Do the steps of a runner's life."""
        (HOME.stay if runner.engine.is_brief else HOME.roam)()
        life = self._schedule.life(runner)
        outcome: StepOutcome = None
        batch: Batch | None = None
        step: Step | None
        while True:
            with self._lock:
                try:
                    step = life.send(outcome)
                except StopIteration:
                    step = None
                locks, self._queue.locks = self._queue.locks, []
            for lock in locks:
                lock.release()
            if batch is not None:
                if batch.outputs is not None:
                    self._observer.batch_executed(batch.rows, batch.inference_seconds)
                batch = None
            outcome = None
            if isinstance(step, Batch):
                batch = step
                outcome = _execute(runner.engine, batch)
            elif isinstance(step, Sleep):
                # A sleep without an end is answered by being woken.
                outcome = runner.wake.acquire(timeout=min(step.seconds, threading.TIMEOUT_MAX))
            elif isinstance(step, GiveWay):
                os.sched_yield()
            elif step is not None:
                step.wait()
            else:
                return


def _execute(engine: Engine, batch: Batch) -> Outputs | BaseException:
    rows = batch.arrays[0] if len(batch.arrays) == 1 else np.concatenate(batch.arrays)
    try:
        if batch.traces:
            with batch.traces[0].batch(batch.traces, batch.rows):
                outputs = _run(engine, rows, batch)
        else:
            outputs = _run(engine, rows, batch)
        for output in outputs:
            if output is not None and len(output) != batch.rows:
                raise ValueError(f"the engine answered {len(output)} rows to {batch.rows}")
        return outputs
    # Whatever ended the engine, the entries of this batch must not wait for ever.
    except BaseException as error:
        return error


def _run(engine: Engine, rows: Rows, batch: Batch) -> Outputs:
    if batch.extras or batch.interruption is not None:
        return engine.run(rows, batch.extras, batch.interruption)
    return engine.run(rows)
