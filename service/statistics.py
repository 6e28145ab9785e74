"""Cumulative statistics of one servable: how often it answered, and where the time went.

Metrics show the same from outside, over time; this is what a client can ask for at one moment.
"""

import copy
import threading
import time
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from convd.service.errors import CallerGoneError

NANOSECONDS = 1_000_000_000

_MOST_KEPT = 256


@dataclass(slots=True)
class Duration:
    """How often something happened, and how long it took altogether."""

    count: int = 0
    nanoseconds: int = 0

    def add(self, nanoseconds: int) -> None:
        """Count one more, that took so long."""
        self.count += 1
        self.nanoseconds += nanoseconds

    def include(self, other: "Duration") -> None:
        """Count what was counted elsewhere too."""
        self.count += other.count
        self.nanoseconds += other.nanoseconds


@dataclass(slots=True)
class Stages:
    """Where the time of requests went.

    Attributes:
        input: From the choice of the servable to the submission of prepared rows.
        inference: Running the network.
        output: From the network's answer to the end of the request.
    """

    input: Duration = field(default_factory=Duration)
    inference: Duration = field(default_factory=Duration)
    output: Duration = field(default_factory=Duration)

    def include(self, other: "Stages") -> None:
        """Count what was counted elsewhere too."""
        self.input.include(other.input)
        self.inference.include(other.inference)
        self.output.include(other.output)


@dataclass(slots=True)
class Statistics:
    """Statistics of one servable since it was loaded.

    Attributes:
        last_answer_unix_milliseconds: When a request was last answered; 0 for never.
        rows: Rows that were answered.
        batches: Batches that were run.
        success: Requests that were answered, from the choice of the servable to the answer.
        failure: Requests that failed.
        cancelled: Requests whose caller had gone.
        queue: Waiting of answered requests for the engine.
        stages: The other stages of answered requests.
        by_batch_size: Stages by rows of a batch: the inference of each batch that was run, and
            the input and output of answered requests, once for each batch that held their rows.
    """

    last_answer_unix_milliseconds: int = 0
    rows: int = 0
    batches: int = 0
    success: Duration = field(default_factory=Duration)
    failure: Duration = field(default_factory=Duration)
    cancelled: Duration = field(default_factory=Duration)
    queue: Duration = field(default_factory=Duration)
    stages: Stages = field(default_factory=Stages)
    by_batch_size: dict[int, Stages] = field(default_factory=dict)

    def include(self, other: "Statistics") -> None:
        """Count what was counted elsewhere too."""
        self.last_answer_unix_milliseconds = max(
            self.last_answer_unix_milliseconds, other.last_answer_unix_milliseconds
        )
        self.rows += other.rows
        self.batches += other.batches
        self.success.include(other.success)
        self.failure.include(other.failure)
        self.cancelled.include(other.cancelled)
        self.queue.include(other.queue)
        self.stages.include(other.stages)
        for size, stages in other.by_batch_size.items():
            self.by_batch_size.setdefault(size, Stages()).include(stages)


StatisticsByVersion = dict[tuple[str, int], Statistics]
"""The statistics of each model's versions."""


def add_up_statistics(parts: Iterable[Mapping[tuple[str, int], Statistics]]) -> StatisticsByVersion:
    """Statistics of several processes as those of one that did it all.

    Args:
        parts: What each process has counted, by model and version. They stay as they are.
    """
    total: StatisticsByVersion = {}
    for part in parts:
        for version, counted in part.items():
            total.setdefault(version, Statistics()).include(counted)
    return total


class RequestTimes:
    """The stopwatch of one request, in nanoseconds of `time.perf_counter_ns`."""

    __slots__ = (
        "answered_at",
        "batch_sizes",
        "ended_at",
        "inference",
        "queue",
        "rows",
        "started_at",
        "submitted_at",
    )

    def __init__(self) -> None:
        self.started_at = time.perf_counter_ns()
        self.submitted_at = self.answered_at = self.ended_at = self.started_at
        self.queue = 0
        self.inference = 0
        self.rows = 0
        self.batch_sizes: tuple[int, ...] = ()

    def submitted(self) -> None:
        """Note that the rows are prepared and go to the batcher."""
        self.submitted_at = time.perf_counter_ns()

    def answered(
        self,
        rows: int,
        queue_seconds: float,
        inference_seconds: float,
        batch_sizes: tuple[int, ...],
    ) -> None:
        """Note that the batcher has answered the rows."""
        self.answered_at = time.perf_counter_ns()
        self.rows = rows
        self.queue = round(queue_seconds * NANOSECONDS)
        self.inference = round(inference_seconds * NANOSECONDS)
        self.batch_sizes = batch_sizes

    def ended(self) -> None:
        """Note that the request has ended, well or badly."""
        self.ended_at = time.perf_counter_ns()


class ServableStatistics:
    """Counts the requests and batches of one servable; safe for threads.

    What is told to it is only kept; many are counted together, when enough have come and whenever
    somebody asks.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counted = Statistics()
        # Deques, because appending to them and taking from them need no lock.
        self._answers: deque[RequestTimes] = deque()
        self._batches: deque[tuple[int, float]] = deque()

    def answered(self, times: RequestTimes) -> None:
        """Count a request that was answered; its times must not be changed afterwards."""
        self._answers.append(times)
        if len(self._answers) >= _MOST_KEPT:
            self._count_kept()

    def failed(self, times: RequestTimes, error: BaseException) -> None:
        """Count a request that ended in an error."""
        with self._lock:
            counted = self._counted
            of_its_kind = (
                counted.cancelled if isinstance(error, CallerGoneError) else counted.failure
            )
            of_its_kind.add(times.ended_at - times.started_at)

    def batch_executed(self, rows: int, inference_seconds: float) -> None:
        """Count one batch that was run."""
        self._batches.append((rows, inference_seconds))
        if len(self._batches) >= _MOST_KEPT:
            self._count_kept()

    def snapshot(self) -> Statistics:
        """Copy what was counted so far."""
        self._count_kept()
        with self._lock:
            return copy.deepcopy(self._counted)

    def _count_kept(self) -> None:
        with self._lock:
            for _ in range(len(self._batches)):
                rows, inference_seconds = self._batches.popleft()
                self._counted.batches += 1
                self._of_size(rows).inference.add(round(inference_seconds * NANOSECONDS))
            for _ in range(len(self._answers)):
                self._count_answer(self._answers.popleft())

    def _count_answer(self, times: RequestTimes) -> None:
        input_time = times.submitted_at - times.started_at
        output_time = times.ended_at - times.answered_at
        share = len(times.batch_sizes)
        counted = self._counted
        age = time.perf_counter_ns() - times.ended_at
        counted.last_answer_unix_milliseconds = (time.time_ns() - age) // 1_000_000
        counted.rows += times.rows
        counted.success.add(times.ended_at - times.started_at)
        counted.queue.add(times.queue)
        counted.stages.input.add(input_time)
        counted.stages.inference.add(times.inference)
        counted.stages.output.add(output_time)
        for size in times.batch_sizes:
            stages = self._of_size(size)
            stages.input.add(input_time // share)
            stages.output.add(output_time // share)

    def _of_size(self, rows: int) -> Stages:
        stages = self._counted.by_batch_size.get(rows)
        if stages is None:
            stages = self._counted.by_batch_size[rows] = Stages()
        return stages
