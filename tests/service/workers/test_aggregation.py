from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric

from convd.service.workers.aggregation import add_up, only_counts

COUNTS = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 5)), max_size=6)


def snapshot(
    counts: Sequence[tuple[str, int]] = (),
    seconds: Sequence[float] = (),
    gauges: dict[str, float] | None = None,
) -> list[Metric]:
    registry = CollectorRegistry()
    counter = Counter("requests", "Requests.", ["model"], registry=registry)
    for model, times in counts:
        counter.labels(model).inc(times)
    histogram = Histogram("duration", "Duration.", buckets=(0.1, 1.0), registry=registry)
    for value in seconds:
        histogram.observe(value)
    for name, value in (gauges or {}).items():
        Gauge(name, name, registry=registry).set(value)
    return list(registry.collect())


def values(metrics: Sequence[Metric]) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for metric in metrics
        for sample in metric.samples
        if not sample.name.endswith("_created")
    }


@given(
    workers=st.lists(
        st.tuples(COUNTS, st.lists(st.sampled_from([0.05, 0.5, 5.0]), max_size=5)),
        min_size=1,
        max_size=4,
    ),
    dead=st.integers(0, 4),
)
def test_counters_and_histograms_are_those_of_one_worker_that_did_it_all(
    workers: list[tuple[list[tuple[str, int]], list[float]]], dead: int
) -> None:
    snapshots = [snapshot(counts, seconds) for counts, seconds in workers]
    everything = snapshot(
        [count for counts, _ in workers for count in counts],
        [second for _, seconds in workers for second in seconds],
    )
    departed: list[Metric] = []
    for one in snapshots[:dead]:
        departed = add_up([departed, only_counts(one)])
    assert values(add_up([departed, *snapshots[dead:]])) == pytest.approx(values(everything))


def test_gauges_are_added_up_where_that_is_what_they_mean() -> None:
    one = snapshot(gauges={"convd_queue_rows": 3, "convd_golden_difference": 0.1})
    other = snapshot(gauges={"convd_queue_rows": 4, "convd_golden_difference": 0.2})
    found = values(add_up([one, other]))
    assert found["convd_queue_rows", ()] == 7
    assert found["convd_golden_difference", ()] == 0.2


def test_the_dead_have_no_gauges() -> None:
    assert values(only_counts(snapshot(gauges={"convd_queue_rows": 3}))).keys() == {
        ("duration_bucket", (("le", "0.1"),)),
        ("duration_bucket", (("le", "1.0"),)),
        ("duration_bucket", (("le", "+Inf"),)),
        ("duration_count", ()),
        ("duration_sum", ()),
    }


def test_the_server_is_as_ready_as_its_last_worker_and_a_gpu_is_counted_once() -> None:
    def worker(ready: float, joules: float) -> list[Metric]:
        registry = CollectorRegistry()
        Gauge("convd_ready", "Ready.", registry=registry).set(ready)
        Counter("convd_gpu_energy_joules", "Energy.", registry=registry).inc(joules)
        return list(registry.collect())

    combined = values(add_up([worker(1, 70), worker(0, 71)]))
    assert combined["convd_ready", ()] == 0
    assert combined["convd_gpu_energy_joules_total", ()] == 71
