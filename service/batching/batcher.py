"""The batcher: flat combining of concurrent requests into batches.

There is no batching thread and no timer. A request that finds the engine idle runs at once in its
own thread. Those that arrive meanwhile wait, and when the batch ends, its thread hands the engine
to the first of them, whose thread takes all that wait, up to `max_batch_size`, and so on. The
pattern is that of Hendler, Incze, Shavit and Tzafrir, "Flat Combining and the
Synchronization-Parallelism Tradeoff", SPAA 2010.
"""

import math
import threading
import time
from collections.abc import Callable
from functools import partial

import numpy as np

from service.batching.admission import BatchCosts, check_deadline
from service.batching.cancellation import Cancellation
from service.batching.entry import (
    BatchedResult,
    Entry,
    EntryState,
    Outputs,
    Priority,
    Rows,
    Slot,
)
from service.batching.observer import BatchObserver
from service.batching.waiting_queue import WaitingQueue
from service.errors import (
    CallerGoneError,
    DeadlineExceededError,
    InferenceFailedError,
    InvalidRequestError,
    QueueFullError,
    UnavailableError,
)

Run = Callable[[Rows], Outputs]

FAILURE = "the model failed on this request"


class Batcher:
    """Combines rows of concurrent requests into batches for one engine.

    Args:
        run: The engine: takes uint8 `[batch, height, width, channels]`, returns a tuple of float32
            arrays `[batch, ...]`. It must not keep its argument.
        max_batch_size: Most rows of one batch. Larger entries are split.
        max_queue_size: Most rows that may wait.
        max_concurrent_executions: Batches that may run at the same time.
        max_queue_delay_seconds: How long rows may wait for others to join them; 0 for not at all.
        clock: A monotonic clock, in seconds.
        observer: Hears what happens, for metrics.
        costs: What is known already of the cost by batch size, as from warm-up.
    """

    def __init__(
        self,
        run: Run,
        *,
        max_batch_size: int,
        max_queue_size: int,
        max_concurrent_executions: int = 1,
        max_queue_delay_seconds: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
        observer: BatchObserver | None = None,
        costs: BatchCosts | None = None,
    ) -> None:
        if min(max_batch_size, max_concurrent_executions) < 1:
            raise ValueError("max_batch_size and max_concurrent_executions have to be 1 or more")
        if min(max_queue_size, max_queue_delay_seconds) < 0:
            raise ValueError("max_queue_size and max_queue_delay_seconds have to be 0 or more")
        self._run = run
        self._max_batch_size = max_batch_size
        self._max_entry_size = max(max_batch_size, max_queue_size)
        self._max_queue_delay_seconds = max_queue_delay_seconds
        self._clock = clock
        self._observer = observer or BatchObserver()
        self._lock = threading.Lock()
        # The lock guards all below, and every entry. While rows wait, every slot is busy, or the
        # thread of each waiting entry has a slot: so someone always comes to collect them.
        self._queue = WaitingQueue(max_queue_size)
        self._costs = costs or BatchCosts(max_batch_size)
        self._idle = [Slot() for _ in range(max_concurrent_executions)]
        self._busy: list[Slot] = []
        self._gathering: Entry | None = None
        self._accepting = True
        self._quiet = threading.Event()

    @property
    def waiting_rows(self) -> int:
        """Rows that wait for the engine now."""
        return self._queue.waiting_rows

    @property
    def wasted_rows(self) -> int:
        """Rows that ran, or were about to, when their owner was cancelled or expired."""
        return self._queue.wasted_rows

    def submit(
        self,
        rows: Rows,
        *,
        deadline: float | None = None,
        priority: Priority = Priority.NORMAL,
        cancellation: Cancellation | None = None,
    ) -> BatchedResult:
        """Run rows, together with those of others, and wait for the answer.

        Args:
            rows: uint8 `[n, height, width, channels]`, n at least 1; all entries of a batcher have
                the same row shape. A lone entry reaches the engine without a copy.
            deadline: When the answer loses its use, on the batcher's clock; None for never.
            priority: Level of priority.
            cancellation: Tells when the caller has gone.

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
        arrived_at = self._clock()
        until = math.inf if deadline is None else deadline
        if cancellation is not None and cancellation.cancelled:
            raise self._gone(size)
        if until <= arrived_at:
            raise self._late(size)
        entry: Entry | None = None
        try:
            with self._lock:
                if not self._accepting:
                    raise UnavailableError("the model is draining: send the request elsewhere")
                if (
                    self._idle
                    and size <= self._max_batch_size
                    and not self._queue.waiting_rows
                    and not self._max_queue_delay_seconds
                ):
                    slot = self._start(arrived_at, size)
                else:
                    entry = Entry(rows, arrived_at, until, priority)
                    self._enter(entry, arrived_at)
                    own_slot = entry.slot
        except (QueueFullError, DeadlineExceededError):
            self._observer.rejected(size)
            raise
        if entry is None:
            return self._run_alone(rows, slot, until, cancellation)
        if cancellation is not None:
            cancellation.listen(partial(self._cancel, entry))
        try:
            self._wait(entry, own_slot)
        except BaseException:
            self._abandon(entry)
            raise
        finally:
            if cancellation is not None:
                cancellation.listen(None)
        return self._outcome(entry)

    def drain(self, timeout_seconds: float | None = None) -> bool:
        """Refuse new entries, and wait until the engine has run those that were accepted.

        Args:
            timeout_seconds: How long to wait; None for as long as it takes.

        Returns:
            Whether all have ended.
        """
        with self._lock:
            self._accepting = False
            self._stop_gathering()
            self._note_quiet()
        return self._quiet.wait(timeout_seconds)

    def close(self) -> None:
        """Refuse new entries and those that wait; a batch that runs already ends by itself."""
        with self._lock:
            self._accepting = False
            now = self._clock()
            for entry in list(self._queue.in_order()):
                self._queue.drop(entry, EntryState.REFUSED, now)
                self._wake(entry)
            self._note_quiet()

    def _start(self, now: float, rows: int) -> Slot:
        slot = self._idle.pop()
        slot.started_at = now
        slot.rows = rows
        self._busy.append(slot)
        return slot

    def _enter(self, entry: Entry, now: float) -> None:
        """Queue an entry, and give its thread a slot if one is idle. The lock is held."""
        if not self._idle and entry.deadline != math.inf:
            expected_seconds = self._costs.expected_seconds
            check_deadline(
                now=now,
                deadline=entry.deadline,
                ready_at=min([s.started_at + expected_seconds(s.rows) for s in self._busy]),
                rows=self._queue.rows_ahead(entry.priority) + entry.size,
                max_batch_size=self._max_batch_size,
                concurrent_executions=len(self._busy),
                costs=self._costs,
            )
        self._queue.push(entry)
        if self._gathering is None:
            if self._idle:
                entry.slot = self._start(now, entry.size)
        elif self._queue.waiting_rows >= self._max_batch_size:
            self._stop_gathering()

    def _wait(self, entry: Entry, slot: Slot | None) -> None:
        """Wait until an entry is settled; lead whenever its thread is given a slot."""
        while True:
            if slot is not None:
                self._lead(entry, slot)
                slot = None
            if entry.state is not EntryState.WAITING:
                return
            if entry.wake.acquire(timeout=self._seconds_until(entry.deadline)):
                slot = entry.slot
                continue
            with self._lock:
                now = self._clock()
                if now >= entry.deadline:
                    self._queue.drop(entry, EntryState.EXPIRED, now)
                    # A slot that came with the deadline has to be passed on.
                    slot = entry.slot

    def _seconds_until(self, moment: float) -> float:
        """Return a timeout for a lock: -1 stands for none."""
        if moment == math.inf:
            return -1
        return min(max(moment - self._clock(), 0.0), threading.TIMEOUT_MAX)

    def _run_alone(
        self, rows: Rows, slot: Slot, deadline: float, cancellation: Cancellation | None
    ) -> BatchedResult:
        """Run an entry that found the engine idle, past the queue and without a copy."""
        outputs, cause = self._execute([rows], len(rows))
        ended_at = self._clock()
        inference_seconds = ended_at - slot.started_at
        with self._lock:
            if cause is None:
                self._costs.observe(len(rows), inference_seconds)
            self._hand_over(slot)
        if cause is not None:
            if not isinstance(cause, Exception):
                raise cause
            raise InferenceFailedError(FAILURE) from cause
        self._observer.batch_executed(len(rows), inference_seconds)
        if cancellation is not None and cancellation.cancelled:
            raise self._gone(len(rows))
        if deadline <= ended_at:
            raise self._late(len(rows))
        return BatchedResult(outputs, 0.0, inference_seconds, (len(rows),))

    def _lead(self, entry: Entry, slot: Slot) -> None:
        """Run batches in a slot for as long as the own entry is the one to lead."""
        leading = True
        while leading:
            if self._max_queue_delay_seconds:
                self._gather(entry)
            with self._lock:
                # An entry that ended while its thread woke up passes the slot on.
                if entry.state is not EntryState.WAITING:
                    entry.slot = None
                    self._hand_over(slot)
                    return
                slot.started_at = self._clock()
                batch, expired = self._queue.collect(
                    self._max_batch_size, slot.started_at, self._costs.expected_seconds
                )
                slot.rows = batch.rows
                for late in expired:
                    self._wake(late)
                if not batch.rows:
                    entry.slot = None
                    self._hand_over(slot)
                    return
            outputs, cause = self._execute(batch.arrays, batch.rows)
            with self._lock:
                ended_at = self._clock()
                inference_seconds = ended_at - slot.started_at
                if cause is None:
                    self._costs.observe(batch.rows, inference_seconds)
                    settled = self._queue.deliver(batch, outputs, inference_seconds, ended_at)
                else:
                    settled = self._queue.fail(batch, cause, ended_at)
                entry.slot = None
                leading = self._hand_over(slot, entry)
                for other in settled:
                    if other is not entry:
                        self._wake(other)
            if cause is None:
                self._observer.batch_executed(batch.rows, inference_seconds)
            elif not isinstance(cause, Exception):
                raise cause

    def _execute(self, arrays: list[Rows], rows: int) -> tuple[Outputs, BaseException | None]:
        try:
            outputs = self._run(arrays[0] if len(arrays) == 1 else np.concatenate(arrays))
            for output in outputs:
                if len(output) != rows:
                    raise ValueError(f"the engine answered {len(output)} rows to {rows}")
        # Whatever ended the engine, those who wait behind this batch must not wait for ever.
        except BaseException as error:
            return (), error
        return outputs, None

    def _gather(self, entry: Entry) -> None:
        """Let rows join those that wait, for up to the queue delay of the oldest."""
        with self._lock:
            ends_at = self._queue.oldest_arrival() + self._max_queue_delay_seconds
            seconds = min(ends_at, entry.deadline) - self._clock()
            full = self._queue.waiting_rows >= self._max_batch_size
            if seconds <= 0 or full or self._gathering is not None or not self._accepting:
                return
            self._gathering = entry
        woken = entry.wake.acquire(timeout=min(seconds, threading.TIMEOUT_MAX))
        with self._lock:
            if self._gathering is entry:
                self._gathering = None
            elif not woken:
                # Told to stop just as the time was up.
                entry.wake.acquire()

    def _stop_gathering(self) -> None:
        """Let the thread that gathers rows run what there is. The lock is held."""
        if self._gathering is not None:
            self._gathering.wake.release()
            self._gathering = None

    def _hand_over(self, slot: Slot, leader: Entry | None = None) -> bool:
        """Give a slot to the first entry whose thread has none, or let it idle. The lock is held.

        Returns:
            Whether that is `leader`, the entry whose thread hands over.
        """
        slot.started_at = -math.inf
        for heir in self._queue.in_order():
            if heir.slot is None:
                heir.slot = slot
                if heir is leader:
                    return True
                heir.wake.release()
                return False
        self._busy.remove(slot)
        self._idle.append(slot)
        self._note_quiet()
        return False

    def _wake(self, entry: Entry) -> None:
        """Wake the thread of an entry that has just been settled. The lock is held."""
        if entry.slot is None:
            entry.wake.release()
        elif entry is self._gathering:
            self._stop_gathering()

    def _note_quiet(self) -> None:
        """Tell those who drain, once nothing runs or waits. The lock is held."""
        if not self._accepting and not self._busy and not self._queue.waiting_rows:
            self._quiet.set()

    def _cancel(self, entry: Entry) -> None:
        with self._lock:
            if self._queue.drop(entry, EntryState.CANCELLED, self._clock()):
                self._wake(entry)

    def _abandon(self, entry: Entry) -> None:
        """Withdraw an entry whose thread was interrupted while it waited."""
        with self._lock:
            self._queue.drop(entry, EntryState.CANCELLED, self._clock())
            if entry.slot is not None:
                slot, entry.slot = entry.slot, None
                self._hand_over(slot)

    def _outcome(self, entry: Entry) -> BatchedResult:
        if entry.state is EntryState.ANSWERED:
            return entry.result()
        if entry.state is EntryState.EXPIRED:
            raise self._late(entry.size)
        if entry.state is EntryState.CANCELLED:
            raise self._gone(entry.size)
        if entry.state is EntryState.REFUSED:
            raise UnavailableError("the model was unloaded before the request could run")
        raise InferenceFailedError(FAILURE) from entry.cause

    def _late(self, rows: int) -> DeadlineExceededError:
        self._observer.expired(rows)
        return DeadlineExceededError("the deadline passed before the answer was ready")

    def _gone(self, rows: int) -> CallerGoneError:
        self._observer.cancelled(rows)
        return CallerGoneError("the caller has gone")
