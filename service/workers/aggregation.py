"""Combines the metrics of several workers, running and ended, into one set."""

from collections.abc import Callable, Iterable, Sequence

from prometheus_client import Metric
from prometheus_client.samples import Sample

from convd.service.lifecycle.triton_metrics import COUNTER_NAMES

_ADDED_UP = ("counter", "histogram", "summary", "gaugehistogram")

# Gauges take the maximum over workers (the state of a version, a difference, a setting), except
# those listed here, which take the sum or the minimum. All workers see the same GPU counter.
_COMBINED_BY: dict[str, Callable[[Iterable[float]], float]] = {
    **dict.fromkeys(COUNTER_NAMES, sum),
    "nv_inference_pending_request_count": sum,
    "convd_queue_rows": sum,
    "convd_queue_limit_rows": sum,
    "convd_waiting_calls": sum,
    "convd_waiting_calls_limit": sum,
    "convd_process_threads": sum,
    "convd_shadow_waiting_images": sum,
    "convd_ready": min,
    "convd_gpu_energy_joules": max,
    "convd_response_cache_bytes": sum,
    "process_virtual_memory_bytes": sum,
    "process_resident_memory_bytes": sum,
    "process_open_fds": sum,
    "process_max_fds": min,
    "process_start_time_seconds": min,
}


def add_up(snapshots: Sequence[Sequence[Metric]]) -> list[Metric]:
    """Combine the metrics of several workers.

    Counters and histograms are summed. Gauges take the maximum, or the sum or minimum where the
    meaning of the gauge requires it.

    Args:
        snapshots: The metrics of each worker, as returned by `CollectorRegistry.collect`.
    """
    families: dict[str, list[Metric]] = {}
    for snapshot in snapshots:
        for metric in snapshot:
            families.setdefault(metric.name, []).append(metric)
    return [_combine(metrics) for metrics in families.values()]


def only_counts(snapshot: Sequence[Metric]) -> list[Metric]:
    """Keep only the counters and histograms, which outlive a worker."""
    return [
        metric for metric in snapshot if metric.type in _ADDED_UP or metric.name in COUNTER_NAMES
    ]


def _combine(metrics: Sequence[Metric]) -> Metric:
    first = metrics[0]
    combine = _COMBINED_BY.get(first.name, sum if first.type in _ADDED_UP else max)
    samples: dict[tuple[str, frozenset[tuple[str, str]]], list[Sample]] = {}
    for metric in metrics:
        for sample in metric.samples:
            key = sample.name, frozenset(sample.labels.items())
            samples.setdefault(key, []).append(sample)
    combined = Metric(first.name, first.documentation, first.type, first.unit)
    for (name, _), same in samples.items():
        # The time of the first count is a sample of its own.
        how = min if name.endswith("_created") else combine
        exemplars = [one.exemplar for one in same if one.exemplar is not None]
        combined.samples.append(
            same[-1]._replace(
                value=how(one.value for one in same),
                exemplar=max(exemplars, key=lambda one: one.timestamp or 0.0, default=None),
            )
        )
    return combined
