"""Which failed versions are worth another try, and when."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FIRST_PAUSE_SECONDS = 5.0
LONGEST_PAUSE_SECONDS = 600.0


@dataclass(frozen=True)
class Attempt:
    """What a version was loaded from.

    Attributes:
        files: A fingerprint of its files.
        engine_settings: What its model's configuration said about the engine.
    """

    files: object
    engine_settings: Mapping[str, Any]


@dataclass
class _Failure:
    attempt: Attempt
    last_seen_files: object
    retry_at: float | None
    pause_seconds: float


class FailedLoads:
    """Remembers failed attempts to load versions of one model.

    A version whose files have changed is tried again, once they have stayed the same from one look
    to the next: until then they are still being copied. One that should be loaded otherwise is
    tried at once. One whose files could not be read or loaded, as on a volume that hangs or with
    too little memory, is tried again after pauses that double. One that gave wrong answers is not:
    chance must not let it pass.

    Args:
        clock: A monotonic clock, in seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._failures: dict[int, _Failure] = {}

    def record(self, version: int, attempt: Attempt, *, final: bool) -> None:
        """Remember that an attempt failed; `final` if it would always fail."""
        before = self._failures.get(version)
        pause_seconds = FIRST_PAUSE_SECONDS
        if before is not None and before.attempt == attempt:
            pause_seconds = min(2 * before.pause_seconds, LONGEST_PAUSE_SECONDS)
        retry_at = None if final else self._clock() + pause_seconds
        self._failures[version] = _Failure(attempt, attempt.files, retry_at, pause_seconds)

    def forget(self, version: int) -> None:
        """Forget the failures of a version."""
        self._failures.pop(version, None)

    def has(self, version: int) -> bool:
        """Whether the last attempt failed."""
        return version in self._failures

    def is_due(self, version: int, now: Attempt) -> bool:
        """Whether a version should be tried again; to be asked once at each look.

        Args:
            version: The version.
            now: What it would be loaded from now.
        """
        failure = self._failures.get(version)
        if failure is None or now.engine_settings != failure.attempt.engine_settings:
            return True
        settled = now.files == failure.last_seen_files
        failure.last_seen_files = now.files
        if now.files != failure.attempt.files:
            return settled
        return failure.retry_at is not None and self._clock() >= failure.retry_at


def fingerprint(folder: Path) -> object:
    """Something that changes when any file of a version does; None if it cannot be read."""
    try:
        return tuple(
            (str(file), status.st_mtime_ns, status.st_size)
            for file in sorted(folder.rglob("*"))
            for status in (file.stat(),)
        )
    except OSError:
        return None
