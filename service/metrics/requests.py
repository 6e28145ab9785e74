"""Requests of every method, answered or refused."""

from prometheus_client import CollectorRegistry, Counter

from service.metrics.buckets import SECONDS
from service.metrics.histogram import Histogram


class RequestMetrics:
    """Counts requests and times them.

    Args:
        registry: Where they are collected.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._requests = Counter(
            "convd_requests",
            "Requests answered, by model, version, method and gRPC status code.",
            ["model", "version", "method", "code"],
            registry=registry,
        )
        self._seconds = Histogram(
            "convd_request_duration_seconds",
            "Time from the arrival of a request to its answer.",
            ["model", "version", "method"],
            SECONDS,
            registry,
        )
        # Looking a child up by its labels costs more than counting does.
        self._children: dict[tuple[str, str, str, str], Counter] = {}

    def answered(
        self,
        *,
        model: str,
        version: str,
        method: str,
        code: str,
        seconds: float,
        trace_id: str = "",
    ) -> None:
        """Count one request.

        Args:
            model: The model that it was resolved to; empty where it was not.
            version: The version that it was resolved to; empty where it was not.
            method: Full name of the method.
            code: Name of the status code.
            seconds: How long it took.
            trace_id: Its trace; empty where it is not traced.
        """
        labels = (model, version, method, code)
        child = self._children.get(labels)
        if child is None:
            child = self._children[labels] = self._requests.labels(*labels)
        child.inc()
        self._seconds.labels(model, version, method).observe(seconds, trace_id)

    def forget(self, model: str, version: str) -> None:
        """Drop the series of one version."""
        labels = {"model": model, "version": version}
        self._requests.remove_by_labels(labels)
        self._seconds.remove_matching(labels)
        for key in [key for key in list(self._children) if key[:2] == (model, version)]:
            self._children.pop(key, None)
