"""Cumulative statistics of one servable: how often it answered, and where the time went.

Metrics show the same over time; statistics are what a client can ask for over gRPC.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

NANOSECONDS = 1_000_000_000
"""In a second."""


@dataclass(slots=True)
class Duration:
    """How often something happened, and its total duration."""

    count: int = 0
    nanoseconds: int = 0

    def add(self, nanoseconds: int, count: int = 1) -> None:
        """Count one occurrence, or several with their total duration."""
        self.count += count
        self.nanoseconds += nanoseconds

    def include(self, other: "Duration") -> None:
        """Add the counts of another process."""
        self.count += other.count
        self.nanoseconds += other.nanoseconds


@dataclass(slots=True)
class Stages:
    """Total durations of the stages of requests.

    Attributes:
        input: From finding the servable to submitting the prepared rows.
        inference: Running the network.
        output: From the network's answer to the finished response.
    """

    input: Duration = field(default_factory=Duration)
    inference: Duration = field(default_factory=Duration)
    output: Duration = field(default_factory=Duration)

    def include(self, other: "Stages") -> None:
        """Add the counts of another process."""
        self.input.include(other.input)
        self.inference.include(other.inference)
        self.output.include(other.output)


@dataclass(slots=True)
class Statistics:
    """Statistics of one servable since it was loaded.

    Attributes:
        last_answer_unix_milliseconds: When a request was last answered; 0 for never.
        rows: Answered rows.
        batches: Executed batches.
        success: Answered requests, from finding the servable to the finished response.
        failure: Failed requests.
        cancelled: Requests whose caller had gone.
        queue: Time that answered requests waited for the engine.
        stages: The other stages of answered requests.
        by_batch_size: Stages by batch size: the inference of each executed batch, and the input
            and output of answered requests, once for each batch that held their rows.
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

    def of_batch_size(self, rows: int) -> Stages:
        """The stages of batches of a size."""
        stages = self.by_batch_size.get(rows)
        if stages is None:
            stages = self.by_batch_size[rows] = Stages()
        return stages

    def include(self, other: "Statistics") -> None:
        """Add the counts of another process."""
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
            self.of_batch_size(size).include(stages)


StatisticsByVersion = dict[tuple[str, int], Statistics]
"""Statistics by model and version."""


def add_up_statistics(parts: Iterable[Mapping[tuple[str, int], Statistics]]) -> StatisticsByVersion:
    """Sum the statistics of several processes.

    Args:
        parts: The statistics of each process, by model and version; not modified.
    """
    total: StatisticsByVersion = {}
    for part in parts:
        for version, counted in part.items():
            total.setdefault(version, Statistics()).include(counted)
    return total
