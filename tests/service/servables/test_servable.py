"""Servables as the loader makes them."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from convd.artifact.repository import ModelRepository
from convd.runtime.cores import CoreBudget
from convd.service.errors import DeadlineExceededError
from convd.service.lifecycle.configuration import ModelConfiguration
from convd.service.lifecycle.loading import ServableLoader
from convd.service.metrics import Metrics
from convd.service.servables.response_cache import ResponseCache
from convd.service.settings_sources import load_settings
from tests.support import wait_until

PATIENCE_SECONDS = 30.0


@pytest.mark.parametrize("cached", [False, True])
def test_a_servable_computes_on_cores_of_the_shared_budget(
    repository: Path, cached: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # LeNet's batches are so small that they would not ask for their core.
    monkeypatch.setattr("convd.service.servables.warmup.SMALL_BATCH_SECONDS", 0.0)
    settings = load_settings(
        {"repository": repository, "provider": "cpu", "max_batch_size": 4, "load_memory_bytes": 0}
    )
    budget = CoreBudget(1)
    cache = ResponseCache(10**6) if cached else None
    load = ServableLoader(ModelRepository(repository), settings, Metrics(), budget, cache)
    # The self-test and the warm-up wait for their turn as well.
    with ThreadPoolExecutor() as pool:
        with budget.take(1):
            loading = pool.submit(load, "digits", 1, ModelConfiguration())
            wait_until(lambda: len(budget._line.waiting) == 1)
        servable = loading.result(PATIENCE_SECONDS)
        assert budget.busy == 0
        images = np.zeros((2, *servable.image_shape), np.uint8)
        with budget.take(1):
            with pytest.raises(DeadlineExceededError):
                servable.batcher.submit(images, deadline=time.monotonic() + 0.02)
            waiting = pool.submit(servable.batcher.submit, images)
            wait_until(lambda: servable.batcher.waiting_rows == 2)
        assert len(waiting.result(PATIENCE_SECONDS).outputs[0]) == 2
        assert len(servable.batcher.submit(images).outputs[0]) == 2
    servable.close()
    wait_until(lambda: budget.busy == budget.running == 0)


def test_a_small_network_is_answered_while_others_have_every_core(repository: Path) -> None:
    settings = load_settings(
        {"repository": repository, "provider": "cpu", "max_batch_size": 4, "load_memory_bytes": 0}
    )
    budget = CoreBudget(1)
    load = ServableLoader(ModelRepository(repository), settings, Metrics(), budget)
    servable = load("digits", 1, ModelConfiguration())
    image = np.zeros((1, *servable.image_shape), np.uint8)
    with budget.take(1):
        assert len(servable.batcher.submit(image).outputs[0]) == 1
    servable.close()
