"""Metrics of every version, read from the catalog when metrics are collected."""

import threading
import time
from collections.abc import Callable, Iterable, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from convd.service.lifecycle.catalog import VersionStatus
from convd.service.lifecycle.policy import State
from convd.service.metrics.predictions import MOST_CLASS_SERIES
from convd.service.servables.servable import Servable

_VERSION = ["model", "version"]

KEEP_SECONDS = 600.0
"""How long the counters of a removed version are kept, so that the next scrape sees them."""


class VersionCollector(Collector):
    """Exports the state of every version, and drops the series of removed versions.

    Args:
        registry: Collects the metrics.
        statuses: Returns every version with its state and servable.
        forget: Drops the series of a model's version.
        clock: A monotonic clock, in seconds.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        statuses: Callable[[], Sequence[VersionStatus]],
        forget: Callable[[str, str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._statuses = statuses
        self._forget = forget
        self._clock = clock
        self._lock = threading.Lock()
        self._last_seen: dict[tuple[str, str], float] = {}
        registry.register(self)

    def describe(self) -> Iterable[Metric]:
        """The families without their samples."""
        return _Families().all()

    def collect(self) -> Iterable[Metric]:
        """The families with their samples."""
        families = _Families()
        statuses = self._statuses()
        for status in statuses:
            version = (status.name, str(status.version))
            for state in State:
                families.state.add_metric([*version, state.value], float(status.state is state))
            if status.servable is not None:
                families.add_servable(version, status.servable)
        self._forget_the_gone(
            {(one.name, str(one.version)) for one in statuses if one.state is not State.UNLOADED}
        )
        return families.all()

    def _forget_the_gone(self, present: set[tuple[str, str]]) -> None:
        now = self._clock()
        with self._lock:
            self._last_seen.update(dict.fromkeys(present, now))
            gone = [key for key, seen in self._last_seen.items() if now - seen > KEEP_SECONDS]
            for key in gone:
                del self._last_seen[key]
        for model, version in gone:
            self._forget(model, version)


class _Families:
    def __init__(self) -> None:
        self.state = GaugeMetricFamily(
            "convd_version_state",
            "1 for the current state of a version, 0 for the other states.",
            labels=[*_VERSION, "state"],
        )
        self.info = GaugeMetricFamily(
            "convd_servable_info",
            "1 for the execution provider and precision that a version runs with.",
            labels=[*_VERSION, "provider", "precision"],
        )
        self.golden_difference = GaugeMetricFamily(
            "convd_golden_difference_ratio",
            "Largest difference from a golden probability in the self-test.",
            labels=[*_VERSION, "provider"],
        )
        self.golden_tolerance = GaugeMetricFamily(
            "convd_golden_tolerance_ratio",
            "Largest difference from a golden probability that the artifact allows.",
            labels=[*_VERSION, "provider"],
        )
        self.accuracy = GaugeMetricFamily(
            "convd_accuracy_ratio",
            "Top-1 accuracy on the evaluation data, or mean average precision of independent "
            "labels, from the manifest.",
            labels=_VERSION,
        )
        self.baseline = GaugeMetricFamily(
            "convd_baseline_prediction_ratio",
            "Share of the evaluation data for which each class is predicted, from the manifest.",
            labels=[*_VERSION, "class"],
        )
        self.queue_rows = GaugeMetricFamily(
            "convd_queue_rows", "Rows waiting for a batch.", labels=_VERSION
        )
        self.queue_limit = GaugeMetricFamily(
            "convd_queue_limit_rows", "Maximum waiting rows; more are refused.", labels=_VERSION
        )
        self.queue_age = GaugeMetricFamily(
            "convd_queue_age_seconds", "Waiting time of the oldest row.", labels=_VERSION
        )

    def all(self) -> list[GaugeMetricFamily]:
        return list(vars(self).values())

    def add_servable(self, version: tuple[str, str], servable: Servable) -> None:
        manifest = servable.manifest
        provider, precision = servable.provider.name, servable.precision
        self.info.add_metric([*version, provider, precision], 1)
        self.golden_difference.add_metric([*version, provider], servable.golden_difference)
        tolerance = manifest.golden_tolerance(provider, precision)
        if tolerance is not None:
            self.golden_tolerance.add_metric([*version, provider], tolerance)
        if manifest.accuracy is not None:
            self.accuracy.add_metric(version, manifest.accuracy.quality)
        # Only to be compared with predictions; a series for each class of an idle model is many.
        if manifest.baseline is not None and servable.metrics.has_answered:
            shares = zip(manifest.labels, manifest.baseline.predicted_shares, strict=True)
            for label, share in list(shares)[:MOST_CLASS_SERIES]:
                self.baseline.add_metric([*version, label], share)
        self.queue_rows.add_metric(version, servable.batcher.waiting_rows)
        self.queue_limit.add_metric(version, servable.batcher.max_queue_size)
        self.queue_age.add_metric(version, servable.batcher.oldest_wait_seconds)
