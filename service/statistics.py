"""Cumulative statistics of one servable: how often it answered, and where the time went.

Metrics show the same from outside, over time; this is what a client can ask for at one moment.
"""

import copy
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from service.errors import CallerGoneError

NANOSECONDS = 1_000_000_000


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

    __slots__ = ("answered_at", "batch_sizes", "inference", "queue", "rows", "submitted_at")

    def __init__(self) -> None:
        self.submitted_at = 0
        self.answered_at = 0
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
        *,
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


class ServableStatistics:
    """Counts the requests and batches of one servable; safe for threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counted = Statistics()

    @contextmanager
    def request(self) -> Iterator[RequestTimes]:
        """Count what happens inside as one request."""
        times = RequestTimes()
        started_at = time.perf_counter_ns()
        try:
            yield times
        except CallerGoneError:
            with self._lock:
                self._counted.cancelled.add(time.perf_counter_ns() - started_at)
            raise
        except Exception:
            with self._lock:
                self._counted.failure.add(time.perf_counter_ns() - started_at)
            raise
        self._count_answer(times, started_at)

    def batch_executed(self, rows: int, inference_seconds: float) -> None:
        """Count one batch that was run."""
        with self._lock:
            self._counted.batches += 1
            self._of_size(rows).inference.add(round(inference_seconds * NANOSECONDS))

    def snapshot(self) -> Statistics:
        """Copy what was counted so far."""
        with self._lock:
            return copy.deepcopy(self._counted)

    def _count_answer(self, times: RequestTimes, started_at: int) -> None:
        ended_at = time.perf_counter_ns()
        input_time = times.submitted_at - started_at
        output_time = ended_at - times.answered_at
        share = len(times.batch_sizes)
        with self._lock:
            counted = self._counted
            counted.last_answer_unix_milliseconds = time.time_ns() // 1_000_000
            counted.rows += times.rows
            counted.success.add(ended_at - started_at)
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
