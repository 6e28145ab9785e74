import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from convd.artifact.evidence import Baseline
from convd.artifact.manifest import Manifest
from convd.service.metrics.predictions import OTHER_CLASSES, PredictionRecorder
from convd.service.metrics.servables import ServableMetrics
from convd.service.metrics.version import VersionMetrics
from tests.service.metrics.support import manifest_with, record_of

VERSION = {"model": "digits", "version": "1"}


def _version_metrics(manifest: Manifest) -> tuple[CollectorRegistry, VersionMetrics]:
    registry = CollectorRegistry()
    return registry, VersionMetrics(ServableMetrics(registry), "digits", "1", manifest)


def test_predictions_confidence_and_entropy_are_counted() -> None:
    registry, metrics = _version_metrics(manifest_with(("cat", "dog")))
    metrics.answered(record_of(np.array([[0.9, 0.1], [0.3, 0.7]], np.float32)))
    metrics.answered(record_of(np.array([[1.0, 0.0]], np.float32)))

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(name, VERSION | labels)

    assert value("convd_predictions_total", **{"class": "cat"}) == 2
    assert value("convd_predictions_total", **{"class": "dog"}) == 1
    assert value("convd_images_total") == 3
    assert value("convd_prediction_confidence_ratio_count") == 3
    assert value("convd_prediction_confidence_ratio_sum") == pytest.approx(2.6)
    assert value("convd_prediction_confidence_ratio_bucket", le="0.7") == 1
    assert value("convd_prediction_entropy_ratio_bucket", le="0.0") is None
    assert value("convd_prediction_entropy_ratio_bucket", le="0.001") == 1


def test_answers_are_counted_without_anybody_collecting() -> None:
    registry, metrics = _version_metrics(manifest_with(("cat", "dog")))
    for _ in range(10_000):
        metrics.answered(record_of(np.array([[0.9, 0.1]], np.float32)))
    assert len(metrics._requests) < 1000
    assert registry.get_sample_value("convd_images_total", VERSION) == 10_000


def test_classes_beyond_the_first_thousand_share_a_series() -> None:
    labels = tuple(f"class {index}" for index in range(3000))
    recorder = PredictionRecorder(manifest_with(labels))
    recorder.count([np.eye(3000, dtype=np.float32)[[0, 999, 1000, 2999]]])
    counts = dict(recorder.class_counts())
    assert len(counts) == 1001
    assert counts["class 0"] == counts["class 999"] == 1
    assert counts[OTHER_CLASSES] == 2


def test_each_independent_label_from_one_half_on_is_a_prediction() -> None:
    registry, metrics = _version_metrics(manifest_with(("cat", "dog"), task="multilabel"))
    # Both labels, none, one: probabilities that are of no use to a softmax.
    metrics.answered(record_of(np.array([[0.9, 0.5], [0.3, 0.2]], np.float32)))
    metrics.answered(record_of(np.array([[1.0, 0.0]], np.float32)))

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(name, VERSION | labels)

    assert value("convd_predictions_total", **{"class": "cat"}) == 2
    assert value("convd_predictions_total", **{"class": "dog"}) == 1
    assert value("convd_images_total") == 3
    confidence = 0.9 * 0.5 + 0.7 * 0.8 + 1
    assert value("convd_prediction_confidence_ratio_sum") == pytest.approx(confidence)
    assert value("convd_prediction_entropy_ratio_bucket", le="0.001") == 1


def test_drift_appears_when_the_window_is_full_and_a_version_that_is_forgotten_leaves() -> None:
    baseline = Baseline(
        data="pictures",
        examples=1000,
        predicted_shares=(0.5, 0.5),
        confidence_shares=(0.0,) * 19 + (1.0,),
    )
    registry = CollectorRegistry()
    families = ServableMetrics(registry)
    metrics = VersionMetrics(families, "digits", "1", manifest_with(("cat", "dog"), baseline))

    def drift(of: str) -> float | None:
        return registry.get_sample_value("convd_drift_index", VERSION | {"of": of})

    mix = np.array([[0.99, 0.01], [0.02, 0.98]] * 125, np.float32)
    metrics.answered(record_of(mix))
    assert drift("class") is None
    metrics.answered(record_of(mix))
    assert drift("class") == pytest.approx(0, abs=0.01)
    assert drift("confidence") == pytest.approx(0, abs=0.01)
    metrics.answered(record_of(np.repeat(mix[:1], 500, axis=0)))
    assert (drift("class") or 0) > 0.25
    assert drift("confidence") == pytest.approx(0, abs=0.01)
    metrics.answered(record_of(np.array([[0.6, 0.4], [0.4, 0.6]] * 250, np.float32)))
    assert drift("class") == pytest.approx(0, abs=0.01)
    assert (drift("confidence") or 0) > 0.25
    families.forget("digits", "1")
    for family in registry.collect():
        assert family.samples == []
