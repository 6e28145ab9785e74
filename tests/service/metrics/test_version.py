"""A version's records, as statistics and as metrics."""

import threading

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from convd.service.errors import CallerGoneError, QueueFullError
from convd.service.metrics import RequestRecord, VersionMetrics
from convd.service.metrics.servables import ServableMetrics
from tests.service.metrics.support import manifest_with, record_of

VERSION = {"model": "digits", "version": "1"}


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def metrics(registry: CollectorRegistry) -> VersionMetrics:
    return VersionMetrics(ServableMetrics(registry), "digits", "1", manifest_with(("cat", "dog")))


def answer(rows: int, batch_sizes: tuple[int, ...]) -> RequestRecord:
    record = record_of(np.full((rows, 2), 0.5, np.float32))
    record.batch_sizes = batch_sizes
    record.submitted_at += 1_000_001
    record.answered_at += 1_750_000_000
    record.ended_at += 1_760_000_000
    return record


def test_an_answered_request_is_counted_in_every_stage(
    metrics: VersionMetrics, registry: CollectorRegistry
) -> None:
    metrics.batch_executed(8, 0.5)
    metrics.batch_executed(4, 0.25)
    metrics.answered(answer(12, (8, 4)))
    counted = metrics.statistics()
    assert (counted.rows, counted.batches, counted.success.count) == (12, 2, 1)
    assert counted.success.nanoseconds == 1_760_000_000
    assert (counted.queue.count, counted.queue.nanoseconds) == (1, 250_000_000)
    assert counted.stages.input.nanoseconds == 1_000_001
    assert counted.stages.inference.nanoseconds == 500_000_000
    assert counted.stages.output.nanoseconds == 10_000_000
    assert set(counted.by_batch_size) == {8, 4}
    assert counted.by_batch_size[8].inference.nanoseconds == 500_000_000
    assert counted.by_batch_size[4].inference.nanoseconds == 250_000_000
    # Each batch carries its share of the request.
    for stages in counted.by_batch_size.values():
        assert (stages.input.count, stages.input.nanoseconds) == (1, 500_000)
        assert stages.output.nanoseconds == 5_000_000
    for stage, seconds in {"queue": 0.25, "inference": 0.5, "postprocess": 0.01}.items():
        name = "convd_stage_duration_seconds_sum"
        found = registry.get_sample_value(name, VERSION | {"stage": stage})
        assert found == pytest.approx(seconds)
    assert registry.get_sample_value("convd_batch_size_rows_sum", VERSION) == 12
    assert registry.get_sample_value("convd_images_total", VERSION) == 12


@pytest.mark.parametrize(
    "name",
    [
        "convd_stage_duration_seconds_count",
        "convd_batch_size_rows_count",
        "convd_batch_duration_seconds_count",
        "convd_prediction_confidence_ratio_count",
        "convd_prediction_entropy_ratio_count",
        "convd_images_total",
        "convd_predictions_total",
    ],
)
def test_a_metric_that_is_asked_for_by_name_is_complete(
    metrics: VersionMetrics, registry: CollectorRegistry, name: str
) -> None:
    metrics.batch_executed(1, 0.5)
    metrics.answered(answer(1, (1,)))
    [family] = registry.restricted_registry([name]).collect()
    assert max(sample.value for sample in family.samples) == 1


def test_failures_and_cancellations_are_told_apart(metrics: VersionMetrics) -> None:
    for error in (CallerGoneError("gone"), QueueFullError("full"), ValueError("a bug")):
        metrics.failed(RequestRecord(), error)
    counted = metrics.statistics()
    assert (counted.cancelled.count, counted.failure.count, counted.success.count) == (1, 2, 0)
    assert counted.last_answer_unix_milliseconds == 0


def test_a_snapshot_does_not_change(metrics: VersionMetrics) -> None:
    metrics.answered(answer(1, (1,)))
    before = metrics.statistics()
    metrics.answered(answer(1, (1,)))
    assert metrics.statistics().rows == 2
    assert (before.rows, before.by_batch_size[1].input.count) == (1, 1)


def test_threads_lose_nothing(metrics: VersionMetrics, registry: CollectorRegistry) -> None:
    def work() -> None:
        for _ in range(500):
            metrics.batch_executed(3, 0.001)
            metrics.answered(answer(3, (3,)))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        list(registry.collect())
    for thread in threads:
        thread.join()
    counted = metrics.statistics()
    assert (counted.rows, counted.batches, counted.queue.count) == (6000, 2000, 2000)
    assert counted.by_batch_size[3].inference.nanoseconds == 2000 * 1_000_000
    assert registry.get_sample_value("convd_images_total", VERSION) == 6000


def test_two_servables_of_one_version_count_together_until_the_first_is_closed(
    registry: CollectorRegistry,
) -> None:
    families = ServableMetrics(registry)
    old, new = (
        VersionMetrics(families, "digits", "1", manifest_with(("cat", "dog"))) for _ in range(2)
    )
    old.answered(answer(1, (1,)))
    old.close()
    new.answered(answer(1, (1,)))
    labels = VERSION | {"stage": "queue"}
    assert registry.get_sample_value("convd_stage_duration_seconds_count", labels) == 2
    assert (old.statistics().rows, new.statistics().rows) == (1, 1)
