"""Metrics under the names of NVIDIA's Triton, so that dashboards written for it keep working.

Only the names are Triton's; the same is told with more detail by convd's own metrics.
"""

from collections.abc import Callable, Iterable, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric, UnknownMetricFamily
from prometheus_client.registry import Collector

from convd.service.lifecycle.catalog import VersionStatus
from convd.service.statistics import Statistics

_LABELS = ["model", "version"]
_MICROSECOND = 1000  # nanoseconds

# Triton's counters have no suffix _total, which the client library would add to a counter.
_COUNTERS: dict[str, tuple[str, Callable[[Statistics], float]]] = {
    "nv_inference_request_success": (
        "Requests that were answered.",
        lambda counted: counted.success.count,
    ),
    "nv_inference_count": ("Images that were classified.", lambda counted: counted.rows),
    "nv_inference_exec_count": ("Batches that were run.", lambda counted: counted.batches),
    "nv_inference_request_duration_us": (
        "Time of answered requests.",
        lambda counted: counted.success.nanoseconds / _MICROSECOND,
    ),
    "nv_inference_queue_duration_us": (
        "Time that answered requests waited for the engine.",
        lambda counted: counted.queue.nanoseconds / _MICROSECOND,
    ),
    "nv_inference_compute_input_duration_us": (
        "Time of decoding and preprocessing.",
        lambda counted: counted.stages.input.nanoseconds / _MICROSECOND,
    ),
    "nv_inference_compute_infer_duration_us": (
        "Time of inference.",
        lambda counted: counted.stages.inference.nanoseconds / _MICROSECOND,
    ),
    "nv_inference_compute_output_duration_us": (
        "Time from the network's answer to the end of the request.",
        lambda counted: counted.stages.output.nanoseconds / _MICROSECOND,
    ),
}
_FAILURES = "nv_inference_request_failure"

COUNTER_NAMES = (*_COUNTERS, _FAILURES)
"""What adds up over workers, though it is not declared as a counter."""


class TritonCollector(Collector):
    """Shows the statistics of every loaded version.

    Args:
        registry: Where they are collected.
        statuses: Every version with its state and servable.
    """

    def __init__(
        self, registry: CollectorRegistry, statuses: Callable[[], Sequence[VersionStatus]]
    ) -> None:
        self._statuses = statuses
        registry.register(self)

    def describe(self) -> Iterable[Metric]:
        """The families without their samples."""
        return self._families().values()

    def collect(self) -> Iterable[Metric]:
        """The families with their samples."""
        families = self._families()
        for status in self._statuses():
            servable = status.servable
            if servable is None:
                continue
            labels = [status.name, str(status.version)]
            counted = servable.metrics.statistics()
            for name, (_, read) in _COUNTERS.items():
                families[name].add_metric(labels, read(counted))
            families[_FAILURES].add_metric([*labels, "OTHER"], counted.failure.count)
            families[_FAILURES].add_metric([*labels, "CANCELED"], counted.cancelled.count)
            pending = servable.batcher.waiting_rows
            families["nv_inference_pending_request_count"].add_metric(labels, pending)
        return families.values()

    def _families(self) -> dict[str, UnknownMetricFamily | GaugeMetricFamily]:
        families: dict[str, UnknownMetricFamily | GaugeMetricFamily] = {
            name: UnknownMetricFamily(name, documentation, labels=_LABELS)
            for name, (documentation, _) in _COUNTERS.items()
        }
        families[_FAILURES] = UnknownMetricFamily(
            _FAILURES, "Requests that failed, by reason.", labels=[*_LABELS, "reason"]
        )
        families["nv_inference_pending_request_count"] = GaugeMetricFamily(
            "nv_inference_pending_request_count",
            "Images that wait for an inference.",
            labels=_LABELS,
        )
        return families
