"""The engine: what computes a batch, and what the schedule knows of it."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from convd.runtime.cores import CoreShare
from convd.service.batching.costs import BatchCosts

Rows = NDArray[np.uint8]
Outputs = tuple[NDArray[np.float32], ...]


@dataclass(frozen=True, slots=True, eq=False)
class Engine:
    """One way to compute batches of a network.

    Attributes:
        run: Takes uint8 `[batch, height, width, channels]`, returns a tuple of float32 arrays
            `[batch, ...]`. It must not keep its argument.
        max_batch_size: Most rows of one batch.
        max_concurrent_executions: Batches that may run at the same time.
        costs: What is known of the cost by batch size, as from warm-up.
        cores: What each batch takes from the cores that engines share; None where it takes none.
    """

    run: Callable[[Rows], Outputs]
    max_batch_size: int
    max_concurrent_executions: int = 1
    costs: BatchCosts = field(default_factory=BatchCosts)
    cores: CoreShare | None = None

    def __post_init__(self) -> None:
        if min(self.max_batch_size, self.max_concurrent_executions) < 1:
            raise ValueError("max_batch_size and max_concurrent_executions have to be 1 or more")
