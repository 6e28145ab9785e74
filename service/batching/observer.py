"""What the batcher tells those who count and trace, so that it knows none of their libraries."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Protocol


class EntryTrace(Protocol):
    """Follows one entry, where it is traced."""

    def batch(self, traces: Sequence["EntryTrace"], rows: int) -> AbstractContextManager[None]:
        """Surround one run of the engine.

        Entered in the thread that runs it and left before any waiting entry is told of its end.
        Called on the first traced entry of the batch only.

        Args:
            traces: Of all traced entries of the batch, in order.
            rows: Rows of the batch.
        """


class BatchObserver:
    """Hears what a batcher does; this base ignores it all, so override what you count.

    Every method is called outside the batcher's lock, in the thread of the request concerned, after
    the engine has been handed on. How many rows wait is a property of the batcher, to be read when
    metrics are collected.
    """

    def batch_executed(self, rows: int, inference_seconds: float) -> None:
        """A batch of `rows` rows ended well."""

    def rejected(self, rows: int) -> None:
        """An arriving entry was refused: the queue is full, or there is no time to answer."""

    def expired(self, rows: int) -> None:
        """An accepted entry's deadline passed before its answer."""

    def cancelled(self, rows: int) -> None:
        """An entry's caller went before its answer."""
