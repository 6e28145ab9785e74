"""What concerns every worker, whichever of them the client asked."""

import threading
from concurrent import futures

from convd.service.shadow.report import ComparisonReport, join_reports
from convd.service.workers.line import Line, LineClosedError


class SharedControl:
    """Makes every worker load or unload a model, or say what it has found.

    A worker that starts later does not load models that were unloaded before.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lines: list[Line] = []
        self._held_back: set[str] = set()

    @property
    def held_back(self) -> frozenset[str]:
        """Models that clients have unloaded."""
        with self._lock:
            return frozenset(self._held_back)

    def add(self, line: Line) -> None:
        """Include a worker."""
        with self._lock:
            self._lines.append(line)

    def remove(self, line: Line) -> None:
        """Exclude a worker that has ended."""
        with self._lock:
            self._lines.remove(line)

    def comparisons(self, timeout_seconds: float) -> list[ComparisonReport]:
        """What the comparisons of versions have found in the workers that answer in time."""
        with self._lock:
            lines = list(self._lines)
        asked = [line.ask("comparisons") for line in lines]
        answered, _ = futures.wait(asked, timeout_seconds)
        return join_reports(one.result() for one in answered if one.exception() is None)

    def carry_out(self, action: str, name: str) -> None:
        """Make every worker "load" or "unload" a model.

        Raises:
            ServiceError: A worker failed to; the others have succeeded.
        """
        with self._lock:
            lines = list(self._lines)
        outcomes = [line.ask(action, name) for line in lines]
        errors = [outcome.exception() for outcome in outcomes]
        with self._lock:
            if action == "load":
                self._held_back.discard(name)
            elif not all(errors):
                self._held_back.add(name)
        for error in errors:
            # A worker that ended meanwhile is replaced by one that learns it at startup.
            if error is not None and not isinstance(error, LineClosedError):
                raise error
