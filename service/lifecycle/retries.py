"""Decides which failed versions to load again, and when."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FIRST_PAUSE_SECONDS = 5.0
LONGEST_PAUSE_SECONDS = 600.0


@dataclass(frozen=True)
class Attempt:
    """The files and settings that a version was loaded with.

    Attributes:
        files: A fingerprint of its files.
        engine_settings: The engine settings of its model's configuration.
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
    """Remembers failed attempts to load the versions of one model.

    A version is retried when its files have changed and have then stayed the same from one look to
    the next, since before that they may still be in the middle of a copy. It is retried at once
    when its engine settings have changed. If its files could not be read or loaded (a hanging
    volume, too little memory), it is retried after pauses that double. A version that gave wrong
    answers is not retried: it must not pass by chance.

    Args:
        clock: A monotonic clock, in seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._failures: dict[int, _Failure] = {}

    def record(self, version: int, attempt: Attempt, *, final: bool) -> None:
        """Record a failed attempt; `final` if the same attempt must not be repeated."""
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
        """Whether to load a version again; call it once per look.

        Args:
            version: The version.
            now: The files and settings that it would be loaded with now.
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
    """A value that changes with any file of a version; None if the folder cannot be read."""
    try:
        return tuple(
            (str(file), status.st_mtime_ns, status.st_size)
            for file in sorted(folder.rglob("*"))
            for status in (file.stat(),)
        )
    except OSError:
        return None
