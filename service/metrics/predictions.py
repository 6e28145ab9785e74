"""Metrics of the answers themselves: predictions per class, confidence, entropy and drift."""

import threading
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from convd.artifact.answers import confidences, entropy_ratios, predictions
from convd.artifact.manifest import Manifest
from convd.service.metrics.bounds import CONFIDENCE, ENTROPY_RATIO
from convd.service.metrics.drift import DriftWindow
from convd.service.metrics.histogram import Distribution, Histogram

MOST_CLASS_SERIES = 1000
OTHER_CLASSES = "(other)"
"""Label of the series that all classes beyond the first thousand share."""

_VERSION = ["model", "version"]


class PredictionRecorder:
    """Counts the predictions of one servable.

    Args:
        manifest: The artifact's manifest.
    """

    def __init__(self, manifest: Manifest) -> None:
        self.labels = manifest.labels
        self.confidence = Distribution(CONFIDENCE)
        self.entropy_ratio = Distribution(ENTROPY_RATIO)
        self.drift = DriftWindow(manifest.baseline, manifest.task) if manifest.baseline else None
        self._task = manifest.task
        self._counts = np.zeros(len(self.labels), np.int64)

    def count(self, answers: Sequence[NDArray[np.float32]]) -> None:
        """Count answers; not thread-safe.

        Args:
            answers: The probabilities of each, float32 `[rows, classes]`.
        """
        probabilities = np.concatenate(answers)
        predicted = predictions(probabilities, self._task)
        sure = confidences(probabilities, self._task)
        self._counts += predicted.sum(axis=0)
        self.confidence.observe_all(sure)
        self.entropy_ratio.observe_all(entropy_ratios(probabilities, self._task))
        if self.drift is not None:
            self.drift.add(predicted, sure)

    def class_counts(self) -> list[tuple[str, int]]:
        """How often each label was predicted."""
        counts = self._counts.tolist()
        own = list(zip(self.labels, counts[:MOST_CLASS_SERIES], strict=False))
        if len(counts) > MOST_CLASS_SERIES:
            own.append((OTHER_CLASSES, sum(counts[MOST_CLASS_SERIES:])))
        return own


class PredictionMetrics(Collector):
    """The metric families of predictions.

    Args:
        registry: Collects the metrics.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._lock = threading.Lock()
        self._recorders: dict[tuple[str, str], PredictionRecorder] = {}
        registry.register(self)
        self._confidence = Histogram(
            "convd_prediction_confidence_ratio",
            "Probability of what is predicted: the most probable class, or all labels together "
            "where they are independent.",
            _VERSION,
            CONFIDENCE,
            registry,
        )
        self._entropy = Histogram(
            "convd_prediction_entropy_ratio",
            "Entropy of the probabilities relative to the maximum: 0 is certain, 1 is uniform.",
            _VERSION,
            ENTROPY_RATIO,
            registry,
        )

    def add(self, model: str, version: str, recorder: PredictionRecorder) -> None:
        """Export a recorder; it replaces an earlier one of the same version."""
        with self._lock:
            self._recorders[model, version] = recorder
        self._confidence.adopt((model, version), recorder.confidence)
        self._entropy.adopt((model, version), recorder.entropy_ratio)

    def forget(self, model: str, version: str) -> None:
        """Drop the series of one version."""
        labels = {"model": model, "version": version}
        with self._lock:
            self._recorders.pop((model, version), None)
        self._confidence.remove_matching(labels)
        self._entropy.remove_matching(labels)

    def describe(self) -> Iterable[Metric]:
        """The families without their samples."""
        return self._families()

    def collect(self) -> Iterable[Metric]:
        """The families with their samples."""
        images, predictions, drift = families = self._families()
        with self._lock:
            recorders = list(self._recorders.items())
        for version, recorder in recorders:
            # Reading this first also counts the buffered answers.
            answered = recorder.confidence.count
            images.add_metric(version, answered)
            # From the first answer on, every class: those not predicted yet count from 0.
            for label, count in recorder.class_counts() if answered else ():
                predictions.add_metric([*version, label], count)
            if recorder.drift is None:
                continue
            indices = recorder.drift.indices()
            if indices is not None:
                drift.add_metric([*version, "class"], indices[0])
                drift.add_metric([*version, "confidence"], indices[1])
        return families

    def _families(self) -> tuple[CounterMetricFamily, CounterMetricFamily, GaugeMetricFamily]:
        return (
            CounterMetricFamily("convd_images", "Classified images.", labels=_VERSION),
            CounterMetricFamily(
                "convd_predictions",
                "Classified images by predicted class: the most probable one, or each independent "
                "label from 0.5 on.",
                labels=[*_VERSION, "class"],
            ),
            GaugeMetricFamily(
                "convd_drift_index",
                "Population stability index of recent predictions against the evaluation data: "
                "below 0.1 is stable, above 0.25 is drift.",
                labels=[*_VERSION, "of"],
            ),
        )
