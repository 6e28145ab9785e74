"""Which batches are run before a model is ready, and what is known of the others."""

import dataclasses
from pathlib import Path

import pytest

from convd.runtime.cpu import CPU
from convd.runtime.provider import ExecutionProvider
from convd.runtime.session import Session
from convd.service.servables.warmup import engine_of, warm_up

EVERY_SIZE = [1, 2, 4, 8, 16, 32]


@pytest.mark.parametrize(
    ("provider", "telling_seconds", "sizes"),
    [
        (CPU, 0.0, [1, 2]),
        (CPU, 1e9, EVERY_SIZE),
        (dataclasses.replace(CPU, prepares_batch_sizes=True), 0.0, EVERY_SIZE),
    ],
)
def test_a_slow_network_runs_no_batch_whose_cost_follows_from_smaller_ones(
    published: Path,
    monkeypatch: pytest.MonkeyPatch,
    provider: ExecutionProvider,
    telling_seconds: float,
    sizes: list[int],
) -> None:
    monkeypatch.setattr("convd.service.servables.warmup._TELLING_BATCH_SECONDS", telling_seconds)
    session = Session((published / "model.onnx").read_bytes(), provider)
    costs = warm_up(session, (32, 32, 1))
    assert [cost.rows for cost in costs] == sizes
    largest = engine_of(session, costs, 32).costs.expected_seconds(32)
    assert largest >= costs[0].seconds / 2
