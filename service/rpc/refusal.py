"""What a refused call learns besides its status: when to try again."""

import math

from convd.service.errors import LimitExceededError

RETRY_AFTER_KEY = "retry-after"
"""Trailing metadata: whole seconds after which to try again, as HTTP's header of that name."""

PUSHBACK_KEY = "grpc-retry-pushback-ms"
"""Trailing metadata that gRPC's clients obey if they retry: https://github.com/grpc/proposal A6."""


def retry_hint(error: Exception) -> tuple[tuple[str, str], ...]:
    """Trailing metadata that says when to try again; empty if trying again does not help."""
    seconds = error.retry_after_seconds if isinstance(error, LimitExceededError) else None
    if seconds is None:
        return ()
    return (
        (RETRY_AFTER_KEY, str(max(1, math.ceil(seconds)))),
        (PUSHBACK_KEY, str(max(1, math.ceil(1000 * seconds)))),
    )
