"""A principal: who calls, what it may do, and how much."""

import threading
import time
from contextvars import ContextVar

from pydantic import BaseModel, ConfigDict, Field

from convd.service.access.scopes import Grants
from convd.service.access.token_bucket import TokenBucket
from convd.service.errors import LimitExceededError

_LEAST_RATE = 1e-6
"""The smallest rate: hints when to try again stay numbers that clients can read."""

_PAUSE_SECONDS = 0.1
"""When to try again after too many concurrent calls: the length of a typical call."""


class Limits(BaseModel):
    """How much a principal may use; None for as much as the server allows everyone."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    requests_per_second: float | None = Field(default=None, ge=_LEAST_RATE, le=1e9)
    pixels_per_second: float | None = Field(default=None, ge=_LEAST_RATE, le=1e15)
    concurrent_calls: int | None = Field(default=None, ge=1, le=1_000_000)
    request_bytes: int | None = Field(default=None, ge=1, le=2**31 - 1)

    def divided(self, workers: int) -> "Limits":
        """The share of each of several workers, which count apart."""
        # Not validated: a share may be smaller than what a file may say.
        return Limits.model_construct(
            requests_per_second=self.requests_per_second and self.requests_per_second / workers,
            pixels_per_second=self.pixels_per_second and self.pixels_per_second / workers,
            concurrent_calls=self.concurrent_calls and -(-self.concurrent_calls // workers),
            request_bytes=self.request_bytes,
        )


class Principal:
    """One caller that the server knows, or the one that it does not know.

    Args:
        name: Its name, for metrics and the log.
        grants: What it may do.
        limits: How much.
    """

    def __init__(self, name: str, grants: Grants, limits: Limits) -> None:
        self.name = name
        self.grants = grants
        self._lock = threading.Lock()
        self._concurrent = 0
        self.limit(limits)

    def limit(self, limits: Limits) -> None:
        """Give it other limits, of which nothing is used yet but the calls in progress."""
        self.limits = limits
        now = time.monotonic()
        self._requests, self._pixels = (
            None if rate is None else TokenBucket.full(rate, now)
            for rate in (limits.requests_per_second, limits.pixels_per_second)
        )

    def spend_request(self) -> None:
        """Count one request.

        Raises:
            LimitExceededError: There have been too many of late.
        """
        bucket = self._requests
        if bucket is not None:
            self._spend(bucket, 1, "requests_per_second")

    def spend_pixels(self, pixels: int) -> None:
        """Count the pixels of a picture before it is decoded.

        Raises:
            LimitExceededError: There have been too many of late.
        """
        bucket = self._pixels
        if bucket is not None:
            self._spend(bucket, pixels, "pixels_per_second")

    def check_size(self, request_bytes: int) -> None:
        """Refuse a request that is too large.

        Raises:
            LimitExceededError: It is.
        """
        limit = self.limits.request_bytes
        if limit is not None and request_bytes > limit:
            raise LimitExceededError(
                f"the request has {request_bytes} bytes, over your limit of {limit}: send less in "
                "one request"
            )

    def enter(self) -> None:
        """Count a call that begins; `leave` ends it.

        Raises:
            LimitExceededError: Too many of its calls are in progress.
        """
        limit = self.limits.concurrent_calls
        with self._lock:
            # Counted without a limit too: it may be given one before the call ends.
            if limit is None or self._concurrent < limit:
                self._concurrent += 1
                return
        raise LimitExceededError(
            f"{limit} of your calls are in progress already: wait until one has ended",
            retry_after_seconds=_PAUSE_SECONDS,
        )

    def leave(self) -> None:
        """Count the end of a call that `enter` let in."""
        with self._lock:
            self._concurrent -= 1

    def _spend(self, bucket: TokenBucket, amount: float, limit: str) -> None:
        with self._lock:
            wait_seconds = bucket.take(amount, time.monotonic())
        if wait_seconds:
            raise LimitExceededError(
                f"your limit of {bucket.per_second:g} {limit.replace('_', ' ')} is used up: try "
                f"again in {wait_seconds:.3g} s",
                retry_after_seconds=wait_seconds,
            )


OTHERS = "others"
"""Names, in metrics, the principals beyond the bound of series."""

ANONYMOUS = Principal("anonymous", Grants({}), Limits())
"""The caller without valid credentials."""

RESERVED_NAMES = (ANONYMOUS.name, OTHERS)
"""Names that stand for nobody in particular, and that nobody may have."""

arrived_principal: ContextVar[Principal | None] = ContextVar("arrived_principal", default=None)
"""Whose call this context works for, from its arrival on; None without access control."""
