"""Whether a servable runs batches on a core each, and that its answers stay the same."""

import gc
import logging
import weakref
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from convd.artifact.bundle import Artifact
from convd.artifact.graph_contract import OutputArrays
from convd.artifact.repository import ModelRepository
from convd.runtime.cores import CoreBudget
from convd.runtime.cpu import CPU
from convd.runtime.session import Session
from convd.service.lifecycle.configuration import ModelConfiguration
from convd.service.lifecycle.loading import ServableLoader
from convd.service.metrics import Metrics
from convd.service.servables.instances import Instances, faster_instances
from convd.service.servables.servable import Servable
from convd.service.servables.warmup import BatchCost
from convd.service.settings import ServerSettings
from convd.service.settings_sources import load_settings
from tests.service.test_integrity import lie_about_the_golden_answers
from tests.support import wait_until

CORES = 2


@pytest.fixture(autouse=True)
def instances_whatever_their_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    """LeNet would have one thread, and a busy machine its own opinion of the rates."""
    monkeypatch.setattr("convd.runtime.thread_count.SMALL_INFERENCE_SECONDS", 0.0)
    monkeypatch.setattr("convd.service.servables.instances.LEAST_RATE", 0.0)


def settings_of(repository: Path, **settings: object) -> ServerSettings:
    fixed = {"provider": "cpu", "max_batch_size": 5, "load_memory_bytes": 0}
    return load_settings({"repository": repository, **fixed, **settings})


def instances_of(repository: Path, **settings: object) -> Instances | None:
    artifact = Artifact.open(repository / "digits" / "1")
    session = Session(
        (repository / "digits" / "1" / "model.onnx").read_bytes(), CPU, cores=CoreBudget(CORES)
    )
    assert session.threads == CORES
    costs = (BatchCost(1, 0.001), BatchCost(5, 0.004))
    return faster_instances(artifact, session, costs, settings_of(repository, **settings))


def loaded(repository: Path, budget: CoreBudget) -> Servable:
    load = ServableLoader(ModelRepository(repository), settings_of(repository), Metrics(), budget)
    return load("digits", 1, ModelConfiguration())


def test_instances_that_are_faster_are_kept_and_take_as_many_rows_together(
    repository: Path,
) -> None:
    instances = instances_of(repository)
    assert instances is not None
    assert instances.engine.max_concurrent_executions == CORES
    assert instances.engine.max_batch_size == 3
    assert instances.engine.cores is not None
    assert instances.engine.cores.threads == 1
    assert [(cost.rows, cost.executions) for cost in instances.costs] == [(1, 2), (2, 2), (3, 2)]
    assert instances.engine.costs.expected_seconds(1) > 0


def test_instances_that_are_slower_are_not_kept(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nothing is a thousand times as fast on as many cores.
    monkeypatch.setattr("convd.service.servables.instances.LEAST_RATE", 1000.0)
    assert instances_of(repository) is None


@pytest.mark.parametrize(
    "settings",
    [
        {"intra_op_threads": 2},
        {"max_concurrent_executions": 1},
        {"max_queue_delay_seconds": 0.01},
    ],
)
def test_what_an_operator_has_chosen_stands(repository: Path, settings: dict[str, object]) -> None:
    assert instances_of(repository, **settings) is None


def test_a_session_of_one_thread_needs_no_instances(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("convd.runtime.thread_count.SMALL_INFERENCE_SECONDS", 1e9)
    monkeypatch.setattr("convd.runtime.thread_count.LEAST_BATCH_GAIN", 1e9)
    servable = loaded(repository, CoreBudget(CORES))
    assert servable.session.threads == 1
    assert servable.instances is None
    assert "a core each" not in servable.describe()
    servable.close()


def test_instances_that_give_other_answers_are_not_kept(
    repository: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lie_about_the_golden_answers(repository / "digits" / "1")
    with caplog.at_level(logging.WARNING):
        assert instances_of(repository) is None
    assert "golden probabilities differ by 0.5" in caplog.text


def test_many_callers_get_the_answers_of_one(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    budget = CoreBudget(CORES)
    servable = loaded(repository, budget)
    assert servable.instances is not None
    assert "2 batches at a time, a core each: 1: " in servable.describe()
    images = np.random.default_rng(0).integers(
        0, 256, (200, 1, *servable.image_shape), dtype=np.uint8
    )
    expected = [servable.session.run(image)[0] for image in images]
    runs: Counter[int] = Counter()
    run = Session.run

    def counted(session: Session, rows: NDArray[np.uint8], *special: Any) -> OutputArrays:
        runs[session.threads] += 1
        return run(session, rows, *special)

    monkeypatch.setattr(Session, "run", counted)
    servable.close()
    servable = loaded(repository, budget)
    runs.clear()
    servable.batcher.submit(images[0])
    assert runs == {CORES: 1}
    with ThreadPoolExecutor(16) as pool:
        results = list(pool.map(servable.batcher.submit, images))
    assert runs[1]
    for result, probabilities in zip(results, expected, strict=True):
        np.testing.assert_allclose(result.outputs[0], probabilities, atol=1e-6)
    servable.close()
    wait_until(lambda: budget.busy == budget.running == 0)


def test_nothing_is_left_of_instances_whose_servable_is_gone(repository: Path) -> None:
    servable = loaded(repository, CoreBudget(CORES))
    assert servable.instances is not None
    images = np.zeros((64, 1, *servable.image_shape), np.uint8)
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(servable.batcher.submit, images))
    session = weakref.ref(servable.instances.session)
    gc.disable()
    try:
        servable.close()
        del servable
        # Without the collector, once its runners have ended.
        wait_until(lambda: session() is None)
    finally:
        gc.enable()
