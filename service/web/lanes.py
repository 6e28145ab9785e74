"""The threads that answer requests: some for each kind, so that no kind can hold up another."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from enum import Enum
from typing import NamedTuple, TypeVar

from convd.runtime.home_core import HOME
from convd.service.errors import QueueFullError

_Answer = TypeVar("_Answer")


class _Threads(NamedTuple):
    name: str
    threads: int
    waiting: int


class Lane(Enum):
    """Which threads answer a request: how many there are, and how many requests may wait for them.

    Attributes:
        PROBE: Whether the server lives and is ready.
        METRICS: The metrics.
        PAGE: The console, and descriptions of models.
        TRIAL: Pictures that are tried in the console.
        INFERENCE: Requests for inference; a server's setting says how many threads.
        CONTROL: Models that are loaded and unloaded, which can take minutes.
    """

    PROBE = _Threads("probe", 2, waiting=16)
    METRICS = _Threads("metrics", 2, waiting=8)
    PAGE = _Threads("page", 4, waiting=16)
    TRIAL = _Threads("trial", 4, waiting=0)
    INFERENCE = _Threads("inference", 0, waiting=96)
    CONTROL = _Threads("control", 2, waiting=2)


class Lanes:
    """The threads of every lane, created as they are needed.

    Its methods are to be called in one event loop, so its counts need no lock.

    Args:
        inference_threads: Threads of the lane for inference.
    """

    def __init__(self, inference_threads: int) -> None:
        self._taken = dict.fromkeys(Lane, 0)
        self._count = {lane: lane.value.threads or inference_threads for lane in Lane}
        self._executors = {
            lane: ThreadPoolExecutor(
                count, thread_name_prefix=f"http-{lane.value.name}", initializer=HOME.stay
            )
            for lane, count in self._count.items()
        }

    def submit(self, lane: Lane, work: Callable[[], _Answer]) -> "asyncio.Future[_Answer]":
        """Begin to work in a thread of a lane.

        Raises:
            QueueFullError: Too many requests are in progress or wait already.
        """
        if self._taken[lane] >= self._count[lane] + lane.value.waiting:
            raise QueueFullError(
                f"{self._taken[lane]} requests like this one are in progress already: try again "
                "shortly"
            )
        self._taken[lane] += 1
        answer = asyncio.get_running_loop().run_in_executor(self._executors[lane], work)

        def free(_answer: object) -> None:
            self._taken[lane] -= 1

        answer.add_done_callback(free)
        return answer

    def close(self) -> None:
        """Drop what waits; each thread ends when its work is done."""
        for executor in self._executors.values():
            executor.shutdown(wait=False, cancel_futures=True)
