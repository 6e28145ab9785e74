"""The threads that work on calls.

gRPC hands each call to a pool, and wants to hear no more than that it is over. `ThreadPoolExecutor`
keeps a result and a failure for whoever may wait for them, and takes a dozen locks for it, which a
small network's request notices: see docs/decisions/0011-the-interpreter.md.
"""

import atexit
import logging
import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue

logger = logging.getLogger(__name__)

_Told = Callable[["Task"], object]


class Task:
    """Work that a thread does once.

    Args:
        work: What to do.
        arguments: With what.
    """

    __slots__ = ("_arguments", "_over", "_to_tell", "_work")

    def __init__(self, work: Callable[..., object], arguments: tuple[object, ...]) -> None:
        self._work = work
        self._arguments = arguments
        self._over = False
        self._to_tell: list[_Told] = []

    def add_done_callback(self, callback: _Told) -> None:
        """Have `callback` called with the task when it is over, at once if it is already."""
        # This writes the list and then reads the flag, `run` writes the flag and then reads the
        # list: whichever order the two threads take, one of them tells.
        self._to_tell.append(callback)
        if self._over:
            self._tell()

    def run(self) -> None:
        """Do the work; what it raises is logged."""
        try:
            self._work(*self._arguments)
        # The thread has other calls to work on.
        except BaseException:
            logger.exception("a call ended in an error that nobody expected")
        self._over = True
        self._tell()

    def _tell(self) -> None:
        while self._to_tell:
            try:
                callback = self._to_tell.pop()
            except IndexError:
                # The other thread has told.
                return
            callback(self)


class CallThreads:
    """Runs tasks in threads, in the order in which they come; threads are made when needed.

    Like those of `ThreadPoolExecutor`, they finish what they do before the process exits.

    Args:
        most: Most threads.
        name: What their names begin with.
    """

    def __init__(self, most: int, name: str) -> None:
        self._most = most
        self._name = name
        self._tasks: SimpleQueue[Task | None] = SimpleQueue()
        # A deque as a semaphore: to take from it and to append to it need no lock.
        self._idle: deque[None] = deque()
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        atexit.register(self._finish)

    def submit(self, work: Callable[..., object], /, *arguments: object) -> Task:
        """Have a thread do something, as soon as one has nothing else to do."""
        task = Task(work, arguments)
        self._tasks.put(task)
        try:
            self._idle.pop()
        except IndexError:
            self._add_thread()
        return task

    def waiting(self) -> int:
        """How many tasks wait for a thread."""
        return self._tasks.qsize()

    def close(self) -> None:
        """Let every thread end once there is nothing more to do; what comes later is not done."""
        with self._lock:
            self._most = 0
            for _ in self._threads:
                self._tasks.put(None)

    def _add_thread(self) -> None:
        with self._lock:
            if len(self._threads) < self._most:
                # A daemon, since others are waited for before `atexit` can tell them to end.
                name = f"{self._name}_{len(self._threads)}"
                thread = threading.Thread(target=self._run_tasks, name=name, daemon=True)
                self._threads.append(thread)
                thread.start()

    def _run_tasks(self) -> None:
        while (task := self._tasks.get()) is not None:
            task.run()
            # Or a thread would keep a call's request and answer until its next one.
            del task
            self._idle.append(None)

    def _finish(self) -> None:
        self.close()
        for thread in self._threads:
            thread.join()
