"""What the service counts and times, in Prometheus' terms."""

import weakref
from collections.abc import Callable, Mapping
from typing import Protocol

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
)

from service.batching.observer import BatchObserver
from service.lifecycle.policy import State
from service.statistics import ServableStatistics

# Fine enough to read a p99 of 1 ms as well as one of 1 s.
_SECONDS = tuple(
    round(factor * 10.0**exponent, 7)
    for exponent in range(-4, 1)
    for factor in (1, 1.5, 2, 3, 5, 7, 10)
    if exponent == 0 or factor < 10
)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class HasQueue(Protocol):
    """Knows how many rows wait, as a batcher does."""

    @property
    def waiting_rows(self) -> int:
        """Rows that wait now."""


class Metrics:
    """All metrics of one server.

    Labels are bounded: a model and a version become labels only after they were resolved.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self._requests = Counter(
            "convd_requests",
            "Requests answered, by model, version, method and gRPC status code.",
            ["model", "version", "method", "code"],
            registry=self.registry,
        )
        self._request_seconds = Histogram(
            "convd_request_duration_seconds",
            "Time from the arrival of a request to its answer.",
            ["model", "version", "method"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.stage_seconds = Histogram(
            "convd_stage_duration_seconds",
            "Time that a request spent in one stage: decode, preprocess, queue or inference.",
            ["model", "version", "stage"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.images = Counter(
            "convd_images",
            "Images that were classified or refused, by outcome.",
            ["model", "version", "outcome"],
            registry=self.registry,
        )
        self.batch_size = Histogram(
            "convd_batch_size_rows",
            "Rows in one inference.",
            ["model", "version"],
            buckets=_ROWS,
            registry=self.registry,
        )
        self.queue_rows = Gauge(
            "convd_queue_rows",
            "Rows that wait for an inference.",
            ["model", "version"],
            registry=self.registry,
        )
        self.dropped_rows = Counter(
            "convd_dropped_rows",
            "Rows that were never run: rejected (queue full), expired (deadline) or cancelled.",
            ["model", "version", "reason"],
            registry=self.registry,
        )
        self.cached_rows = Counter(
            "convd_response_cache_rows",
            "Rows looked up in the response cache, by outcome: hit or miss.",
            ["model", "version", "outcome"],
            registry=self.registry,
        )
        self._cache_bytes = Gauge(
            "convd_response_cache_bytes",
            "Memory that the answers in the response cache take.",
            registry=self.registry,
        )
        self._version_state = Gauge(
            "convd_version_state",
            "1 for the state that a version is in, 0 for the others.",
            ["model", "version", "state"],
            registry=self.registry,
        )
        self._golden_difference = Gauge(
            "convd_golden_difference",
            "Largest difference of a golden probability that the self-test saw.",
            ["model", "version", "provider"],
            registry=self.registry,
        )
        self._configuration_refused = Gauge(
            "convd_model_configuration_refused",
            "1 if the model's config.yaml is refused, and its last good one is in force; else 0.",
            ["model"],
            registry=self.registry,
        )
        self._repository_unreadable = Gauge(
            "convd_repository_unreadable",
            "1 if the last look at the repository, or at a model in it, failed; else 0.",
            registry=self.registry,
        )

    def request_answered(
        self, *, model: str, version: str, method: str, code: str, seconds: float
    ) -> None:
        """Count one request and its duration."""
        self._requests.labels(model, version, method, code).inc()
        self._request_seconds.labels(model, version, method).observe(seconds)

    def version_changed(
        self,
        model: str,
        version: int,
        state: State,
        *,
        provider: str = "",
        golden_difference: float | None = None,
    ) -> None:
        """Show the state of a version, and its proof once it has one."""
        for one in State:
            self._version_state.labels(model, str(version), one.value).set(one is state)
        if golden_difference is not None:
            labels = (model, str(version), provider)
            self._golden_difference.labels(*labels).set(golden_difference)

    def version_gone(self, model: str, version: int) -> None:
        """Take a version that is no longer in the repository out of what is shown as it is now.

        What was counted stays.
        """
        of_version = {"model": model, "version": str(version)}
        for gauge in (self._version_state, self._golden_difference, self.queue_rows):
            gauge.remove_by_labels(of_version)

    def repository_read(self, *, problem: bool, refused_configurations: Mapping[str, bool]) -> None:
        """Show what the last look at the repository has found."""
        self._repository_unreadable.set(problem)
        for model, refused in refused_configurations.items():
            self._configuration_refused.labels(model).set(refused)

    def watch_cache(self, size_bytes: Callable[[], int]) -> None:
        """Read the size of the response cache whenever metrics are collected."""
        self._cache_bytes.set_function(size_bytes)

    def for_version(self, model: str, version: int) -> "VersionMetrics":
        """The metrics of one version, with their labels already resolved."""
        return VersionMetrics(self, model, str(version))


class VersionMetrics(BatchObserver):
    """What one servable counts; also the observer of its batcher."""

    def __init__(self, metrics: Metrics, model: str, version: str) -> None:
        self.statistics = ServableStatistics()
        labels = (model, version)
        stage = metrics.stage_seconds
        self.decode_seconds = stage.labels(*labels, "decode")
        self.preprocess_seconds = stage.labels(*labels, "preprocess")
        self.queue_seconds = stage.labels(*labels, "queue")
        self.inference_seconds = stage.labels(*labels, "inference")
        self.images_classified = metrics.images.labels(*labels, "classified")
        self.images_refused = metrics.images.labels(*labels, "refused")
        self._batch_size = metrics.batch_size.labels(*labels)
        self._queue_rows = metrics.queue_rows.labels(*labels)
        self._rejected = metrics.dropped_rows.labels(*labels, "rejected")
        self._expired = metrics.dropped_rows.labels(*labels, "expired")
        self._cancelled = metrics.dropped_rows.labels(*labels, "cancelled")
        self._cache_hits = metrics.cached_rows.labels(*labels, "hit")
        self._cache_misses = metrics.cached_rows.labels(*labels, "miss")

    def watch_queue(self, batcher: "HasQueue") -> None:
        """Read the length of the queue whenever metrics are collected.

        The metrics outlive the version, and must not keep its network in memory.
        """
        reference = weakref.ref(batcher)
        self._queue_rows.set_function(lambda: getattr(reference(), "waiting_rows", 0))

    def batch_executed(self, rows: int, inference_seconds: float) -> None:
        """Count a batch; as a metric its duration is counted by each request that was in it."""
        self._batch_size.observe(rows)
        self.statistics.batch_executed(rows, inference_seconds)

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
