"""Engines whose cost is known, on cores that they share."""

from collections.abc import Callable

from convd.runtime.cores import CoreBudget, CoreShare
from convd.service.batching.engine import BatchCosts, Engine
from tests.service.batching.simulation import engine


def engine_on(
    threads: int,
    budget: CoreBudget,
    max_batch_size: int,
    cost_seconds: Callable[[int, int], float],
) -> Engine:
    """As many of them run as there are cores for; the cost is by rows and threads."""
    costs = BatchCosts()
    for rows in (1, max_batch_size) * 20:
        costs.observe(rows, cost_seconds(rows, threads))
    return Engine(
        engine,
        max_batch_size=max_batch_size,
        max_concurrent_executions=budget.cores // threads,
        costs=costs,
        cores=CoreShare(budget, threads),
    )
