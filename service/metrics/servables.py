"""Metrics of servables: stages, batches, refused images, dropped rows and cache hits."""

from prometheus_client import CollectorRegistry, Counter

from convd.service.metrics.bounds import ROWS, SECONDS
from convd.service.metrics.histogram import Histogram
from convd.service.metrics.predictions import PredictionMetrics

_VERSION = ["model", "version"]
STAGES = ("decode", "preprocess", "queue", "inference", "postprocess")
DROP_REASONS = ("rejected", "expired", "cancelled")


class ServableMetrics:
    """The metric families that all servables share.

    Args:
        registry: Collects the metrics.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.stage_seconds = Histogram(
            "convd_stage_duration_seconds",
            "Time of a request in one stage: decode, preprocess, queue, inference or postprocess.",
            [*_VERSION, "stage"],
            SECONDS,
            registry,
        )
        self.batch_rows = Histogram(
            "convd_batch_size_rows", "Rows in one batch.", _VERSION, ROWS, registry
        )
        self.batch_seconds = Histogram(
            "convd_batch_duration_seconds",
            "Inference time of one batch. The rate of its sum is the utilisation of the engine.",
            _VERSION,
            SECONDS,
            registry,
        )
        self.refused_images = Counter(
            "convd_refused_images",
            "Images that could not be decoded or had the wrong size.",
            _VERSION,
            registry=registry,
        )
        self.dropped_rows = Counter(
            "convd_dropped_rows",
            "Rows without an answer: rejected (queue full, or too late on arrival), expired "
            "(deadline passed) or cancelled.",
            [*_VERSION, "reason"],
            registry=registry,
        )
        self.cached_rows = Counter(
            "convd_response_cache_rows",
            "Rows looked up in the response cache, by outcome: hit or miss.",
            [*_VERSION, "outcome"],
            registry=registry,
        )
        self.predictions = PredictionMetrics(registry)

    def forget(self, model: str, version: str) -> None:
        """Drop the series of one version."""
        labels = {"model": model, "version": version}
        for histogram in (self.stage_seconds, self.batch_rows, self.batch_seconds):
            histogram.remove_matching(labels)
        for counter in (self.refused_images, self.dropped_rows, self.cached_rows):
            counter.remove_by_labels(labels)
        self.predictions.forget(model, version)
