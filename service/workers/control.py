"""Orders of clients that concern every worker, whichever of them was asked."""

import threading

from convd.service.workers.line import Line, LineClosedError


class SharedControl:
    """Has every worker load or unload a model.

    A worker that is started later leaves unloaded what was unloaded before.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lines: list[Line] = []
        self._held_back: set[str] = set()

    @property
    def held_back(self) -> frozenset[str]:
        """Models that were unloaded on request."""
        with self._lock:
            return frozenset(self._held_back)

    def add(self, line: Line) -> None:
        """Include a worker."""
        with self._lock:
            self._lines.append(line)

    def remove(self, line: Line) -> None:
        """Leave out a worker that has ended."""
        with self._lock:
            self._lines.remove(line)

    def carry_out(self, action: str, name: str) -> None:
        """Have every worker "load" or "unload" a model.

        Raises:
            ServiceError: What a worker says that could not. The others have done it.
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
            # A worker that died meanwhile is followed by one that is told when it starts.
            if error is not None and not isinstance(error, LineClosedError):
                raise error
