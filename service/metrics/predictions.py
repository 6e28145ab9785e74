"""Metrics of the answers themselves: predictions per class, confidence, entropy and drift."""

import threading
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

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
        self.drift = DriftWindow(manifest.baseline) if manifest.baseline else None
        self._counts = np.zeros(len(self.labels), np.int64)

    def count(self, answers: Sequence[NDArray[np.float32]]) -> None:
        """Count answers; not thread-safe.

        Args:
            answers: The probabilities of each, float32 `[rows, classes]`.
        """
        probabilities = np.concatenate(answers)
        classes = probabilities.argmax(axis=1)
        # In float32 a probability may exceed 1 by a rounding error.
        confidences = np.minimum(probabilities.max(axis=1), 1).astype(np.float64)
        self._counts += np.bincount(classes, minlength=len(self.labels))
        self.confidence.observe_all(confidences)
        self.entropy_ratio.observe_all(entropy_ratio(probabilities))
        if self.drift is not None:
            self.drift.add(classes, confidences)

    def class_counts(self) -> list[tuple[str, int]]:
        """Number of predictions by class label."""
        counts = self._counts.tolist()
        own = list(zip(self.labels, counts[:MOST_CLASS_SERIES], strict=False))
        if len(counts) > MOST_CLASS_SERIES:
            own.append((OTHER_CLASSES, sum(counts[MOST_CLASS_SERIES:])))
        return own


def entropy_ratio(probabilities: NDArray[np.float32]) -> NDArray[np.float64]:
    """Compute the entropy of each row relative to the maximum.

    Args:
        probabilities: float32 `[rows, classes]`.

    Returns:
        `[rows]`: 0 for a single certain class, 1 if all classes are equally probable.
    """
    smallest = np.finfo(np.float32).tiny
    terms = probabilities * np.log(np.maximum(probabilities, smallest))
    entropies = -terms.sum(axis=1, dtype=np.float64)
    ratio = entropies / np.log(max(probabilities.shape[1], 2))
    clipped: NDArray[np.float64] = np.clip(ratio, 0.0, 1.0)
    return clipped


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
            "Probability of the most probable class.",
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
            images.add_metric(version, recorder.confidence.count)
            for label, count in recorder.class_counts():
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
                "Classified images by their most probable class.",
                labels=[*_VERSION, "class"],
            ),
            GaugeMetricFamily(
                "convd_drift_index",
                "Population stability index of recent predictions against the evaluation data: "
                "below 0.1 is stable, above 0.25 is drift.",
                labels=[*_VERSION, "of"],
            ),
        )
