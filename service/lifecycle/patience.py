"""Steps that may hang, several side by side: after a time, the others go on without one."""

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from queue import SimpleQueue

from convd.runtime.home_core import HOME

_LOOK_SECONDS = 0.1

Step = Callable[[], object]


class PatientRunner:
    """Runs steps side by side in threads of its own.

    A step that takes longer than the patience keeps its thread to itself, and another takes its
    place. Nothing can stop it: a volume that never answers is waited for in the kernel.

    Not thread-safe.

    Args:
        patience_seconds: How long a step is waited for.
        stop: Once it is set, nothing is waited for.
        max_threads: Maximum steps side by side.
    """

    def __init__(
        self, patience_seconds: float, stop: threading.Event, max_threads: int = 1
    ) -> None:
        self._patience_seconds = patience_seconds
        self._stop = stop
        self._max_threads = max_threads
        self._free: list[_StepThread] = []
        self._ended = threading.Event()

    def run(self, steps: Mapping[str, Step]) -> dict[str, threading.Event]:
        """Run steps and wait for them, for each as long as patience lasts.

        Args:
            steps: What to do, by name; a step must not raise.

        Returns:
            The steps that were left behind, and what is set when each is over.
        """
        waiting = deque(steps.items())
        running: dict[str, tuple[_StepThread, threading.Event, float]] = {}
        left: dict[str, threading.Event] = {}
        while (waiting or running) and not self._stop.is_set():
            while waiting and len(running) < self._max_threads:
                name, step = waiting.popleft()
                thread = self._free.pop() if self._free else _StepThread(self._ended)
                running[name] = thread, thread.begin(step), time.monotonic()
            self._ended.wait(_LOOK_SECONDS)
            self._ended.clear()
            for name, (thread, over, began) in list(running.items()):
                if over.is_set():
                    del running[name]
                    self._free.append(thread)
                elif time.monotonic() - began > self._patience_seconds:
                    del running[name]
                    left[name] = over
                    thread.close()
        for thread, _, _ in running.values():
            thread.close()
        return left | {name: over for name, (_, over, _) in running.items()}

    def close(self) -> None:
        """End the threads that have nothing to do."""
        while self._free:
            self._free.pop().close()


class _StepThread:
    def __init__(self, ended: threading.Event) -> None:
        self._ended = ended
        self._steps: SimpleQueue[tuple[Step, threading.Event] | None] = SimpleQueue()
        threading.Thread(target=self._run, name="servable-loader", daemon=True).start()

    def begin(self, step: Step) -> threading.Event:
        """Let the thread do a step; what is returned is set when it is over."""
        over = threading.Event()
        self._steps.put((step, over))
        return over

    def close(self) -> None:
        """Let the thread end after the step that it is at."""
        self._steps.put(None)

    def _run(self) -> None:
        HOME.roam()
        while (item := self._steps.get()) is not None:
            step, over = item
            try:
                step()
            finally:
                over.set()
                self._ended.set()
