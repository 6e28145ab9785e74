"""Entries of the queue, and the batches that their rows run in."""

import enum
import math
import threading
from typing import NamedTuple

import numpy as np

from convd.service.batching.engine import Outputs, Rows
from convd.service.batching.observer import EntryTrace
from convd.service.batching.slots import Slot
from convd.service.errors import (
    CallerGoneError,
    DeadlineExceededError,
    InferenceFailedError,
    UnavailableError,
)

LATE = "the deadline passed before the answer was ready"
GONE = "the caller has gone"
FAILED = "the model failed on this request"


class Priority(enum.IntEnum):
    """Who is collected first. The lower level always keeps a share, so nobody starves."""

    HIGH = 1
    NORMAL = 2


class EntryState(enum.Enum):
    """Where an entry stands. Every state but WAITING is final."""

    WAITING = "waiting"  # for collection, or for the end of a batch that holds its rows
    ANSWERED = "answered"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    REFUSED = "refused"


class Batch:
    """Rows that run together.

    Attributes:
        arrays: Parts of entries in order, each uint8 `[rows, height, width, channels]`.
        owners: The entry of each array.
        rows: Number of rows of all arrays.
        outputs: What the engine answered, each array `[rows, ...]`; None before the end.
        inference_seconds: How long the engine took.
    """

    __slots__ = ("arrays", "inference_seconds", "outputs", "owners", "rows")

    def __init__(self) -> None:
        self.arrays: list[Rows] = []
        self.owners: list[Entry] = []
        self.rows = 0
        self.outputs: Outputs | None = None
        self.inference_seconds = 0.0

    @property
    def traces(self) -> list[EntryTrace]:
        """Of those of its owners that are traced."""
        return [owner.trace for owner in self.owners if owner.trace is not None]

    def add(self, entry: "Entry", array: Rows) -> None:
        """Append rows of an entry."""
        entry.pieces.append((self, self.rows, len(array)))
        self.arrays.append(array)
        self.owners.append(entry)
        self.rows += len(array)


class BatchedResult(NamedTuple):
    """The answer to one submitted entry.

    Attributes:
        outputs: The engine's outputs for the entry's rows, in the order of the rows. They may be
            views into the outputs of a larger batch.
        queue_seconds: Time spent waiting between submission and the end of the last batch.
        inference_seconds: Time the engine spent on the batches that held the entry's rows.
        batch_sizes: Rows of each of these batches, in order.
    """

    outputs: Outputs
    queue_seconds: float
    inference_seconds: float
    batch_sizes: tuple[int, ...]


class Entry:
    """Rows of one request on their way through the queue.

    Only the queue and the batcher change an entry, under the batcher's lock.

    Attributes:
        rows: uint8 `[size, height, width, channels]`; None once collected or dropped, so that
            memory does not wait for the last waiter.
        size: Number of rows.
        collected: Rows that batches have taken so far, from the first on.
        unanswered: Rows that no batch has answered yet.
        pieces: Batch, offset in the batch and number of rows of each collected part, in order.
        deadline: On the monotonic clock, in seconds; infinity for none.
        cause: The engine's exception, for a failed entry.
        wake: Held until the waiting thread has something to do: a binary semaphore.
        slot: The slot that the entry's thread has been told to run batches in; None while it waits.
        trace: Follows the entry; None where it is not traced.
    """

    __slots__ = (
        "arrived_at",
        "cause",
        "collected",
        "deadline",
        "ended_at",
        "pieces",
        "priority",
        "rows",
        "size",
        "slot",
        "state",
        "trace",
        "unanswered",
        "wake",
    )

    def __init__(
        self,
        rows: Rows,
        arrived_at: float,
        deadline: float = math.inf,
        priority: Priority = Priority.NORMAL,
        trace: EntryTrace | None = None,
    ) -> None:
        self.rows: Rows | None = rows
        self.size = self.unanswered = len(rows)
        self.collected = 0
        self.pieces: list[tuple[Batch, int, int]] = []
        self.arrived_at = arrived_at
        self.ended_at = arrived_at
        self.deadline = deadline
        self.priority = priority
        self.trace = trace
        self.state = EntryState.WAITING
        self.cause: BaseException | None = None
        self.slot: Slot | None = None
        self.wake = threading.Lock()
        self.wake.acquire()

    def settle(self, state: EntryState, now: float) -> None:
        """Put an entry into its final state."""
        self.state = state
        self.ended_at = now
        self.rows = None

    def result(self) -> BatchedResult:
        """Return what a settled entry ended in.

        Raises:
            DeadlineExceededError: It expired.
            CallerGoneError: It was cancelled.
            InferenceFailedError: A batch that held some of its rows failed.
            UnavailableError: The batcher was closed before it ran.
        """
        if self.state is EntryState.ANSWERED:
            return self._answer()
        if self.state is EntryState.EXPIRED:
            raise DeadlineExceededError(LATE)
        if self.state is EntryState.CANCELLED:
            raise CallerGoneError(GONE)
        if self.state is EntryState.FAILED:
            raise InferenceFailedError(FAILED) from self.cause
        raise UnavailableError("the model was unloaded before the request ran: try again")

    def _answer(self) -> BatchedResult:
        """Put the answer together from the batches that held the rows."""
        parts: list[Outputs] = []
        inference_seconds = 0.0
        for batch, offset, count in self.pieces:
            outputs = batch.outputs
            assert outputs is not None, "an answered entry's batches have all ended"  # noqa: S101
            if count != batch.rows:
                outputs = tuple([output[offset : offset + count] for output in outputs])
            parts.append(outputs)
            inference_seconds += batch.inference_seconds
        if len(parts) == 1:
            answer = parts[0]
        else:
            answer = tuple([np.concatenate(pieces) for pieces in zip(*parts, strict=True)])
        return BatchedResult(
            answer,
            max(0.0, self.ended_at - self.arrived_at - inference_seconds),
            inference_seconds,
            tuple([batch.rows for batch, _, _ in self.pieces]),
        )
