"""Metrics of the requests of every method, answered or refused."""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from convd.service.metrics.bounds import SECONDS
from convd.service.metrics.histogram import Histogram

_LABELS = ["model", "version", "method", "code"]


class RequestMetrics(Collector):
    """Times requests, and thereby counts them.

    Args:
        registry: Collects the metrics.

    Attributes:
        answered: Counts a request by `(model, version, method, code)`, with its seconds and the id
            of its trace. Model and version are empty if they were not resolved.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        registry.register(self)
        self._seconds = Histogram(
            "convd_request_duration_seconds",
            "Time from the start of work on a request to its end.",
            _LABELS,
            SECONDS,
            registry,
        )
        self.answered = self._seconds.observe

    def forget(self, model: str, version: str) -> None:
        """Drop the series of one version."""
        self._seconds.remove_matching({"model": model, "version": version})

    def describe(self) -> Iterable[Metric]:
        """The family without its samples."""
        return [self._family()]

    def collect(self) -> Iterable[Metric]:
        """The family with its samples."""
        family = self._family()
        for labels, distribution in self._seconds.distributions():
            family.add_metric(labels, distribution.count)
        return [family]

    def _family(self) -> CounterMetricFamily:
        return CounterMetricFamily(
            "convd_requests",
            "Finished requests by model, version, method and gRPC status code.",
            labels=_LABELS,
        )
