"""Entries of the queue, and the batches that their rows run in."""

import enum
import math
import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol

from convd.artifact.graph_contract import NO_EXTRAS, Extras, join_parts
from convd.runtime.interruption import Interruption
from convd.service.batching.engine import Outputs, Rows
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
    """Which entries are collected first.

    Of the first two the lower level always keeps a share: none starves. Rows of low priority run
    while there are no others, at most one batch at a time, and give way to those that arrive.
    """

    HIGH = 1
    NORMAL = 2
    LOW = 3


REQUEST_PRIORITIES = (Priority.HIGH, Priority.NORMAL)
"""What a request for an answer can have."""


class EntryState(enum.Enum):
    """Where an entry stands. Every state but WAITING is final."""

    WAITING = "waiting"  # for collection, or for the end of a batch that holds its rows
    ANSWERED = "answered"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    REFUSED = "refused"


class EntryTrace(Protocol):
    """Follows one entry through the batches that hold its rows."""

    def batch(self, traces: Sequence["EntryTrace"], rows: int) -> AbstractContextManager[None]:
        """Surround one run of the engine, in the runner's thread.

        Called on the first traced entry of the batch only, and left before any entry is answered.

        Args:
            traces: Of all traced entries of the batch, in order.
            rows: Rows of the batch.
        """


class Batch:
    """Rows that run together.

    Attributes:
        arrays: Parts of entries in order, each uint8 `[rows, height, width, channels]`.
        owners: The entry of each array.
        traces: Of the entries that are traced.
        extras: The optional outputs that any of its entries asks for.
        interruption: Ends its run early; None for a batch that runs to its end.
        rows: Number of rows of all arrays.
        outputs: What the engine answered, each array `[rows, ...]`; None before the end.
        inference_seconds: How long the engine took.
    """

    __slots__ = (
        "arrays",
        "extras",
        "inference_seconds",
        "interruption",
        "outputs",
        "owners",
        "rows",
        "traces",
    )

    def __init__(self) -> None:
        self.arrays: list[Rows] = []
        self.owners: list[Entry] = []
        self.traces: list[EntryTrace] = []
        self.extras = NO_EXTRAS
        self.interruption: Interruption | None = None
        self.rows = 0
        self.outputs: Outputs | None = None
        self.inference_seconds = 0.0


class BatchedResult(NamedTuple):
    """The answer to one submitted entry.

    Attributes:
        outputs: The engine's outputs for the entry's rows, in the order of the rows. They may be
            views into the outputs of a larger batch, and hold optional outputs that only others of
            that batch asked for.
        queue_seconds: Time spent waiting between submission and the end of the last batch.
        inference_seconds: Time the engine spent on the batches that held the entry's rows.
        batch_sizes: Rows of each of these batches, in order.
    """

    outputs: Outputs
    queue_seconds: float
    inference_seconds: float
    batch_sizes: tuple[int, ...]


class Entry:
    """Rows of one request on their way through the queue, guarded by the batcher's lock.

    Attributes:
        rows: uint8 `[size, height, width, channels]`; None once collected or dropped, so that
            memory is not held until the caller wakes up.
        size: Number of rows.
        collected: Rows that batches have taken so far, from the first on.
        unanswered: Rows that no batch has answered yet.
        pieces: Batch, offset in the batch and number of rows of each collected part, in order.
        deadline: On the monotonic clock, in seconds; infinity for none.
        extras: The optional outputs that it asks for.
        cause: The engine's exception, for a failed entry.
        settled: A lock that its caller waits for; whoever settles the entry has it released.
        trace: Follows the entry; None where it is not traced.
    """

    __slots__ = (
        "arrived_at",
        "cause",
        "collected",
        "deadline",
        "ended_at",
        "extras",
        "pieces",
        "priority",
        "rows",
        "settled",
        "size",
        "state",
        "trace",
        "unanswered",
    )

    def __init__(
        self,
        rows: Rows,
        arrived_at: float,
        deadline: float = math.inf,
        priority: Priority = Priority.NORMAL,
        trace: EntryTrace | None = None,
        extras: Extras = NO_EXTRAS,
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
        self.extras = extras
        self.state = EntryState.WAITING
        self.cause: BaseException | None = None
        self.settled = threading.Lock()
        self.settled.acquire()

    def settle(self, state: EntryState, now: float) -> None:
        """Put the entry into its final state."""
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
            if len(self.pieces) > 1:
                return self._joined()
            batch, offset, count = self.pieces[0]
            outputs = batch.outputs
            assert outputs is not None, "an answered entry's batches have all ended"  # noqa: S101
            if count != batch.rows:
                outputs = _rows_of(outputs, offset, count)
            waited_seconds = self.ended_at - self.arrived_at - batch.inference_seconds
            return BatchedResult(
                outputs, max(0.0, waited_seconds), batch.inference_seconds, (batch.rows,)
            )
        if self.state is EntryState.EXPIRED:
            raise DeadlineExceededError(LATE)
        if self.state is EntryState.CANCELLED:
            raise CallerGoneError(GONE)
        if self.state is EntryState.FAILED:
            raise InferenceFailedError(FAILED) from self.cause
        raise UnavailableError("the model was unloaded before the request ran: try again")

    def _joined(self) -> BatchedResult:
        """Put the answer together from several batches."""
        parts: list[Outputs] = []
        inference_seconds = 0.0
        for batch, offset, count in self.pieces:
            assert batch.outputs is not None, "an answered entry's batches have all ended"  # noqa: S101
            parts.append(_rows_of(batch.outputs, offset, count))
            inference_seconds += batch.inference_seconds
        return BatchedResult(
            join_parts(parts),
            max(0.0, self.ended_at - self.arrived_at - inference_seconds),
            inference_seconds,
            tuple([batch.rows for batch, _, _ in self.pieces]),
        )


def _rows_of(outputs: Outputs, offset: int, count: int) -> Outputs:
    """Some rows of a batch."""
    return tuple(
        [None if output is None else output[offset : offset + count] for output in outputs]
    )
