"""Steps that may hang: each has a time, after which the others go on without it."""

import threading
from collections.abc import Callable
from queue import SimpleQueue

_HEED_SECONDS = 0.1


class PatientRunner:
    """Runs steps one after another in a thread of its own.

    A step that takes longer than the patience keeps that thread to itself, and the next step gets
    another. Nothing can stop it: a network that never ends loading is in code without Python.

    Args:
        patience_seconds: How long a step is waited for.
        stop: Once it is set, nothing is waited for.
    """

    def __init__(self, patience_seconds: float, stop: threading.Event) -> None:
        self._patience_seconds = patience_seconds
        self._stop = stop
        self._steps: SimpleQueue[tuple[Callable[[], object], threading.Event] | None] | None = None

    def run(self, step: Callable[[], object]) -> threading.Event:
        """Run a step and wait for it, as long as patience lasts.

        Args:
            step: What to do; it must not raise.

        Returns:
            What is set when the step is over.
        """
        over = threading.Event()
        if self._steps is None:
            self._steps = SimpleQueue()
            threading.Thread(
                target=_run_steps, args=(self._steps,), name="servable-loader", daemon=True
            ).start()
        self._steps.put((step, over))
        waited_seconds = 0.0
        while not over.wait(_HEED_SECONDS):
            waited_seconds += _HEED_SECONDS
            if waited_seconds >= self._patience_seconds or self._stop.is_set():
                self.close()
                break
        return over

    def close(self) -> None:
        """Let the thread end after the step that it is at."""
        if self._steps is not None:
            self._steps.put(None)
            self._steps = None


def _run_steps(steps: "SimpleQueue[tuple[Callable[[], object], threading.Event] | None]") -> None:
    while (item := steps.get()) is not None:
        step, over = item
        try:
            step()
        finally:
            over.set()
