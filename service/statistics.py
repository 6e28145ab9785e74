"""Cumulative statistics of one servable: how often it answered, and where the time went.

Metrics show the same from outside, over time; this is what a client can ask for at one moment.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

NANOSECONDS = 1_000_000_000
"""In a second."""


@dataclass(slots=True)
class Duration:
    """How often something happened, and how long it took altogether."""

    count: int = 0
    nanoseconds: int = 0

    def add(self, nanoseconds: int, count: int = 1) -> None:
        """Count one more, or several that took so long altogether."""
        self.count += count
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

    def of_batch_size(self, rows: int) -> Stages:
        """The stages of batches of a size."""
        stages = self.by_batch_size.get(rows)
        if stages is None:
            stages = self.by_batch_size[rows] = Stages()
        return stages

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
            self.of_batch_size(size).include(stages)


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
