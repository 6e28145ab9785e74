"""The batcher: what the service asks to run rows, one request at a time."""

import math
import time
from collections.abc import Callable
from functools import partial

from convd.service.batching.combiner import Combiner
from convd.service.batching.engine import Engine, Rows
from convd.service.batching.entry import GONE, LATE, BatchedResult, Entry, EntryState, Priority
from convd.service.batching.observer import BatchObserver, EntryTrace
from convd.service.batching.schedule import Schedule
from convd.service.cancellation import Cancellation
from convd.service.errors import (
    CallerGoneError,
    DeadlineExceededError,
    InvalidRequestError,
    QueueFullError,
)


class Batcher:
    """Combines rows of concurrent requests into batches.

    Args:
        engine: What runs the batches. Entries larger than one are split.
        instances: What runs them while requests are many, a core each; None for the same engine.
        max_queue_size: Most rows that may wait.
        max_queue_delay_seconds: How long rows may wait for others to join them; 0 for not at all,
            which it has to be where there are instances.
        clock: A monotonic clock, in seconds.
        observer: Hears what happens, for metrics.
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
    ) -> None:
        if min(max_queue_size, max_queue_delay_seconds) < 0:
            raise ValueError("max_queue_size and max_queue_delay_seconds have to be 0 or more")
        self._max_entry_size = max(engine.max_batch_size, max_queue_size)
        self._clock = clock
        self._observer = observer or BatchObserver()
        schedule = Schedule(
            engine,
            instances,
            max_queue_size=max_queue_size,
            max_queue_delay_seconds=max_queue_delay_seconds,
        )
        self._queue = schedule.queue
        self._combiner = Combiner(schedule, clock=clock, observer=self._observer)

    @property
    def waiting_rows(self) -> int:
        """Rows that wait for the engine now."""
        return self._queue.waiting_rows

    @property
    def max_queue_size(self) -> int:
        """Most rows that may wait."""
        return self._queue.max_rows

    @property
    def oldest_wait_seconds(self) -> float:
        """How long the oldest row that waits now has waited; 0 where none waits."""
        return max(0.0, self._clock() - self._combiner.oldest_arrival())

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
            self._combiner.check(size, self._clock(), until, priority)
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
    ) -> BatchedResult:
        """Run rows, together with those of others, and wait for the answer.

        Args:
            rows: uint8 `[n, height, width, channels]`, n at least 1; all entries of a batcher have
                the same row shape. A lone entry reaches the engine without a copy.
            deadline: When the answer loses its use, on the batcher's clock; None for never.
            priority: Level of priority.
            cancellation: Tells when the caller has gone.
            trace: Follows the rows; None where they are not traced.

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
        self._check_ended(size, now, until, cancellation)
        try:
            arrival = self._combiner.arrive(rows, now, until, priority, trace)
        except (QueueFullError, DeadlineExceededError):
            self._observer.rejected(size)
            raise
        if isinstance(arrival, Entry):
            return self._wait(arrival, cancellation)
        outputs, inference_seconds, now = self._combiner.run_alone(rows, arrival, trace)
        self._check_ended(size, now, until, cancellation)
        return BatchedResult(outputs, 0.0, inference_seconds, (size,))

    def drain(self, timeout_seconds: float | None = None) -> bool:
        """Refuse new entries, and wait until the engine has run those that were accepted.

        Args:
            timeout_seconds: How long to wait; None for as long as it takes.

        Returns:
            Whether all have ended.
        """
        return self._combiner.drain(timeout_seconds)

    def close(self) -> None:
        """Refuse new entries and those that wait; a batch that runs already ends by itself."""
        self._combiner.close()

    def _wait(self, entry: Entry, cancellation: Cancellation | None) -> BatchedResult:
        if cancellation is None:
            self._combiner.wait(entry)
        else:
            cancellation.listen(partial(self._combiner.cancel, entry))
            try:
                self._combiner.wait(entry)
            finally:
                cancellation.listen(None)
        if entry.state is EntryState.EXPIRED:
            self._observer.expired(entry.size)
        elif entry.state is EntryState.CANCELLED:
            self._observer.cancelled(entry.size)
        return entry.result()

    def _check_ended(
        self, size: int, now: float, deadline: float, cancellation: Cancellation | None
    ) -> None:
        """Raise if nobody waits for the answer any more."""
        if cancellation is not None and cancellation.cancelled:
            self._observer.cancelled(size)
            raise CallerGoneError(GONE)
        if deadline <= now:
            self._observer.expired(size)
            raise DeadlineExceededError(LATE)
