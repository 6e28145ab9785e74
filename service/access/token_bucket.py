"""The token bucket: how much of something may be used per second, as a pure policy."""

from dataclasses import dataclass


@dataclass(slots=True)
class TokenBucket:
    """Allows `per_second` units a second on average, and a second's worth (at least 1) at once.

    More than that at once is allowed only while the bucket is full, and is then paid back: nothing
    that a client may send at all is refused forever.

    Attributes:
        per_second: Units that come back each second.
        level: Units that may be used at `updated_at`; negative while some are paid back.
        updated_at: When the level was right, in seconds of a monotonic clock.
    """

    per_second: float
    level: float
    updated_at: float

    @classmethod
    def full(cls, per_second: float, now: float) -> "TokenBucket":
        """A bucket from which nothing has been taken."""
        return cls(per_second, max(per_second, 1.0), now)

    @property
    def capacity(self) -> float:
        """The largest level."""
        return max(self.per_second, 1.0)

    def take(self, amount: float, now: float) -> float:
        """Take some units, or none.

        Args:
            amount: How many.
            now: The time, in seconds of the clock of `updated_at`.

        Returns:
            0 if they were taken; otherwise the seconds after which the same amount can be taken, if
            nothing else is.
        """
        elapsed_seconds = max(now - self.updated_at, 0.0)
        self.level = min(self.level + elapsed_seconds * self.per_second, self.capacity)
        self.updated_at = max(now, self.updated_at)
        missing = min(amount, self.capacity) - self.level
        if missing > 0:
            return missing / self.per_second
        self.level -= amount
        return 0.0
