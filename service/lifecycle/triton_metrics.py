"""Metrics under the names of NVIDIA's Triton, so that existing dashboards keep working.

convd's own metrics show the same in more detail.
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
        "Answered requests.",
        lambda counted: counted.success.count,
    ),
    "nv_inference_count": ("Classified images.", lambda counted: counted.rows),
    "nv_inference_exec_count": ("Executed batches.", lambda counted: counted.batches),
    "nv_inference_request_duration_us": (
        "Total duration of answered requests.",
        lambda counted: counted.success.nanoseconds / _MICROSECOND,
    ),
    "nv_inference_queue_duration_us": (
        "Total time that answered requests waited for the engine.",
        lambda counted: counted.queue.nanoseconds / _MICROSECOND,
    ),
    "nv_inference_compute_input_duration_us": (
        "Total time of decoding and preprocessing.",
        lambda counted: counted.stages.input.nanoseconds / _MICROSECOND,
    ),
    "nv_inference_compute_infer_duration_us": (
        "Total time of inference.",
        lambda counted: counted.stages.inference.nanoseconds / _MICROSECOND,
    ),
    "nv_inference_compute_output_duration_us": (
        "Total time from the network's answer to the finished response.",
        lambda counted: counted.stages.output.nanoseconds / _MICROSECOND,
    ),
}
_FAILURES = "nv_inference_request_failure"

COUNTER_NAMES = (*_COUNTERS, _FAILURES)
"""Metrics that are summed over workers although their type is not counter."""


class TritonCollector(Collector):
    """Exports the statistics of every loaded version.

    Args:
        registry: Collects the metrics.
        statuses: Returns every version with its state and servable.
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
            _FAILURES, "Failed requests by reason.", labels=[*_LABELS, "reason"]
        )
        families["nv_inference_pending_request_count"] = GaugeMetricFamily(
            "nv_inference_pending_request_count",
            "Images waiting for a batch.",
            labels=_LABELS,
        )
        return families
