"""What servables do: images, stages, batches and rows that were dropped."""

from prometheus_client import CollectorRegistry, Counter

from convd.artifact.manifest import Manifest
from convd.service.batching.observer import BatchObserver
from convd.service.metrics.bounds import ROWS, SECONDS
from convd.service.metrics.histogram import Histogram
from convd.service.metrics.predictions import PredictionMetrics, PredictionRecorder
from convd.service.statistics import ServableStatistics

_VERSION = ["model", "version"]
STAGES = ("decode", "preprocess", "queue", "inference", "postprocess")
DROP_REASONS = ("rejected", "expired", "cancelled")


class ServableMetrics:
    """The families of metrics that all servables share.

    Args:
        registry: Where they are collected.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.stage_seconds = Histogram(
            "convd_stage_duration_seconds",
            "Time that a request spent in one stage: decode, preprocess, queue, inference or "
            "postprocess.",
            [*_VERSION, "stage"],
            SECONDS,
            registry,
        )
        self.batch_rows = Histogram(
            "convd_batch_size_rows", "Rows in one inference.", _VERSION, ROWS, registry
        )
        self.batch_seconds = Histogram(
            "convd_batch_duration_seconds",
            "Time of one inference. The rate of its sum is how busy the engine is.",
            _VERSION,
            SECONDS,
            registry,
        )
        self.refused_images = Counter(
            "convd_refused_images",
            "Images that could not be decoded or have the wrong size.",
            _VERSION,
            registry=registry,
        )
        self.dropped_rows = Counter(
            "convd_dropped_rows",
            "Rows that got no answer: rejected (queue full or too late on arrival), expired "
            "(deadline) or cancelled.",
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


class VersionMetrics(BatchObserver):
    """What one servable counts, with its labels already resolved; also its batcher's observer.

    Args:
        metrics: The families.
        model: The model.
        version: Its version.
        manifest: The artifact's manifest.
    """

    def __init__(
        self, metrics: ServableMetrics, model: str, version: str, manifest: Manifest
    ) -> None:
        self.statistics = ServableStatistics()
        labels = (model, version)
        (
            self.decode_seconds,
            self.preprocess_seconds,
            self.queue_seconds,
            self.inference_seconds,
            self.postprocess_seconds,
        ) = (metrics.stage_seconds.labels(*labels, stage) for stage in STAGES)
        self.images_refused = metrics.refused_images.labels(*labels)
        self._batch_rows = metrics.batch_rows.labels(*labels)
        self._batch_seconds = metrics.batch_seconds.labels(*labels)
        self._rejected, self._expired, self._cancelled = (
            metrics.dropped_rows.labels(*labels, reason) for reason in DROP_REASONS
        )
        self._cache_hits = metrics.cached_rows.labels(*labels, "hit")
        self._cache_misses = metrics.cached_rows.labels(*labels, "miss")
        recorder = PredictionRecorder(manifest)
        metrics.predictions.add(model, version, recorder)
        self.classified = recorder.note
        self._count_answers = recorder.count_kept

    def batch_executed(self, rows: int, inference_seconds: float) -> None:
        """Count a batch."""
        self._batch_rows.observe(rows)
        self._batch_seconds.observe(inference_seconds)
        self.statistics.batch_executed(rows, inference_seconds)

    def close(self) -> None:
        """Let go of answers, since each keeps the memory of its session's arena."""
        self._count_answers()

    def rejected(self, rows: int) -> None:
        """Count rows that were refused on arrival."""
        self._rejected.inc(rows)

    def expired(self, rows: int) -> None:
        """Count rows whose deadline passed."""
        self._expired.inc(rows)

    def cancelled(self, rows: int) -> None:
        """Count rows whose caller has gone."""
        self._cancelled.inc(rows)

    def cache_looked_up(self, hits: int, misses: int) -> None:
        """Count rows that the response cache knew, and those that it did not."""
        self._cache_hits.inc(hits)
        self._cache_misses.inc(misses)
