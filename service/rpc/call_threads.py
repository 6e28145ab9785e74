"""The threads that work on calls.

gRPC hands each call to a pool and needs only a callback when it is done. `ThreadPoolExecutor` also
keeps each result and failure for a waiter, at the cost of a dozen locks per call, which is
noticeable with a small network: see docs/decisions/0011-the-interpreter.md.
"""

import atexit
import logging
import threading
from collections import deque
from collections.abc import Callable, Sized
from queue import SimpleQueue

from convd.runtime.home_core import HOME

logger = logging.getLogger(__name__)

MAX_SILENT = 256
"""Most threads that are added while others wait for messages."""

_Callback = Callable[["Task"], object]


class Task:
    """One piece of work for a thread.

    Args:
        work: The function to call.
        arguments: Its arguments.
    """

    __slots__ = ("_arguments", "_callbacks", "_done", "_work")

    def __init__(self, work: Callable[..., object], arguments: tuple[object, ...]) -> None:
        self._work = work
        self._arguments = arguments
        self._done = False
        self._callbacks: list[_Callback] = []

    def add_done_callback(self, callback: _Callback) -> None:
        """Call `callback` with the task once it is done, or at once if it already is."""
        # This method writes the list, then reads the flag; `run` writes the flag, then reads the
        # list. In any interleaving, at least one of them sees the other's write.
        self._callbacks.append(callback)
        if self._done:
            self._notify()

    def run(self) -> None:
        """Do the work; exceptions are logged."""
        try:
            self._work(*self._arguments)
        # The thread must survive to work on other calls.
        except BaseException:
            logger.exception("a call ended in an unexpected error")
        self._done = True
        if self._callbacks:
            self._notify()

    def _notify(self) -> None:
        while self._callbacks:
            try:
                callback = self._callbacks.pop()
            except IndexError:
                # The other thread has taken it.
                return
            callback(self)


class CallThreads:
    """Runs tasks in threads, in the order of submission; threads are created on demand.

    As with `ThreadPoolExecutor`, the threads finish their tasks before the process exits.

    Args:
        max_threads: Maximum number of threads that work.
        name: Prefix of their names.
        begun: The tasks that have begun to work, while others still wait for a message; None where
            all tasks work from the start.
    """

    def __init__(self, max_threads: int, name: str, begun: Sized | None = None) -> None:
        self._max_threads = max_threads
        self._begun = begun
        self._name = name
        self._tasks: SimpleQueue[Task | None] = SimpleQueue()
        # A deque as a semaphore: appending and taking need no lock.
        self._idle: deque[None] = deque()
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        atexit.register(self._finish)

    def submit(self, work: Callable[..., object], /, *arguments: object) -> Task:
        """Run `work` in the next free thread."""
        task = Task(work, arguments)
        self._tasks.put(task)
        try:
            self._idle.pop()
        except IndexError:
            self._add_thread()
        return task

    def silent(self) -> int:
        """Number of threads that are taken and do not work: their messages have not arrived."""
        if self._begun is None:
            return 0
        return len(self._threads) - len(self._idle) - len(self._begun)

    def waiting(self) -> int:
        """Number of tasks waiting for a thread."""
        return self._tasks.qsize()

    def close(self) -> None:
        """End every thread once the queue is empty; tasks submitted later are not run."""
        with self._lock:
            self._max_threads = 0
            for _ in self._threads:
                self._tasks.put(None)

    def _add_thread(self) -> None:
        with self._lock:
            count = len(self._threads)
            if count < self._max_threads or self._is_held_up(count):
                # A daemon: Python waits for other threads before `atexit` could end them.
                name = f"{self._name}_{len(self._threads)}"
                thread = threading.Thread(target=self._run_tasks, name=name, daemon=True)
                self._threads.append(thread)
                thread.start()

    def _is_held_up(self, count: int) -> bool:
        """Whether nearly all threads wait for messages, so that calls with theirs have none."""
        is_open = self._max_threads > 0
        return is_open and count < self._max_threads + MAX_SILENT and 4 * self.silent() > 3 * count

    def _run_tasks(self) -> None:
        HOME.stay()
        while (task := self._tasks.get()) is not None:
            task.run()
            # Otherwise the thread would keep a call's request and response until its next one.
            del task
            if len(self._threads) > self._max_threads and self._is_surplus():
                return
            self._idle.append(None)

    def _is_surplus(self) -> bool:
        """Whether this thread, added while others were held up, is needed no longer."""
        with self._lock:
            if not 0 < self._max_threads < len(self._threads) or 4 * self.silent() > 2 * len(
                self._threads
            ):
                return False
            self._threads.remove(threading.current_thread())
            return True

    def _finish(self) -> None:
        self.close()
        for thread in self._threads:
            thread.join()
