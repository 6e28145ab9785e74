"""The engine: what computes a batch, and what is known of its cost."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convd.runtime.cores import CoreShare

Rows = NDArray[np.uint8]
Outputs = tuple[NDArray[np.float32] | Any, ...]
"""One array for each output, float32 `[batch, ...]`; None for one that nobody asked for."""

MEAN_WEIGHT = 1 / 16
DEVIATION_WEIGHT = 1 / 4
DEVIATIONS_OF_MARGIN = 4.0
LEAST_VARIANCE = 0.01


class BatchCosts:
    """Measured cost of an engine by batch size: a fixed part and a part for each row.

    The model of the cost is that of Nexus (Shen et al., "Nexus: A GPU Cluster Engine for
    Accelerating DNN-Based Video Analysis", SOSP 2019). The two parts are fitted by exponentially
    weighted least squares; the margin is four mean deviations, as in TCP's timeout (Jacobson,
    "Congestion Avoidance and Control", SIGCOMM 1988; RFC 6298).

    It is not safe for threads: the batcher holds its lock around every call.
    """

    def __init__(self) -> None:
        self._batches = 0
        self._rows = 0.0
        self._seconds = 0.0
        self._variance = 0.0
        self._covariance = 0.0
        self._slope_seconds = 0.0
        self._deviation_seconds = 0.0

    def observe(self, rows: int, seconds: float) -> None:
        """Learn from a batch that took `seconds` for `rows` rows."""
        if not self._batches:
            self._batches, self._rows, self._seconds = 1, float(rows), seconds
            return
        self._batches += 1
        more_rows, more_seconds = rows - self._rows, seconds - self._seconds
        # No batch costs more than its rows one by one: without this bound a slope learned in bad
        # times would keep larger batches from ever being tried again.
        slope = min(self._slope_seconds, self._seconds / self._rows)
        error = abs(more_seconds - slope * more_rows)
        self._deviation_seconds += (error - self._deviation_seconds) * DEVIATION_WEIGHT
        # The first batches count alike, so that the very first does not weigh more than it should.
        weight = max(MEAN_WEIGHT, 1 / self._batches)
        self._rows += weight * more_rows
        self._seconds += weight * more_seconds
        self._variance = (1 - weight) * (self._variance + weight * more_rows**2)
        self._covariance = (1 - weight) * (self._covariance + weight * more_rows * more_seconds)
        # While all batches have one size, they say nothing about the slope: the last one stands.
        if self._variance > LEAST_VARIANCE:
            self._slope_seconds = max(0.0, self._covariance / self._variance)

    def expected_seconds(self, rows: int) -> float:
        """Return the expected cost of a batch with a margin; 0 while nothing is known."""
        if not self._batches:
            return 0.0
        slope = min(self._slope_seconds, self._seconds / self._rows)
        mean_seconds = self._seconds + slope * (rows - self._rows)
        return mean_seconds + DEVIATIONS_OF_MARGIN * self._deviation_seconds


@dataclass(frozen=True, slots=True, eq=False)
class Engine:
    """One way to compute batches of a network.

    Attributes:
        run: Takes uint8 `[batch, height, width, channels]`, and the `extras` that a row of the
            batch asks for and what interrupts it, where there is any of them; returns its outputs.
            It must not keep its argument.
        max_batch_size: Maximum rows of one batch.
        max_concurrent_executions: Batches that may run at the same time.
        costs: What is known of the cost by batch size, as from warm-up.
        cores: What each batch takes from the cores that engines share; None where it takes none.
        small_rows: Rows of the largest batch that is so short that it runs without asking for them.
    """

    run: Callable[..., Outputs]
    max_batch_size: int
    max_concurrent_executions: int = 1
    costs: BatchCosts = field(default_factory=BatchCosts)
    cores: CoreShare | None = None
    small_rows: int = 0

    @property
    def is_brief(self) -> bool:
        """Whether even the largest batch is so short that it need not ask for cores."""
        return self.cores is not None and self.small_rows >= self.max_batch_size

    def __post_init__(self) -> None:
        if min(self.max_batch_size, self.max_concurrent_executions) < 1:
            raise ValueError("max_batch_size and max_concurrent_executions have to be 1 or more")
