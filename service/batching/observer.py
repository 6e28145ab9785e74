"""What the batcher tells those who count, so that it knows no metrics library."""


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
