"""The histogram that sorts late must say what prometheus_client's says at once."""

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client import Histogram as PlainHistogram
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics

from convd.service.metrics.bounds import CONFIDENCE, ENTROPY_RATIO, ROWS, SECONDS
from convd.service.metrics.histogram import Histogram

BOUNDS = (0.001, 0.01, 0.5, 1.0, 20.0)
LABELS = st.sampled_from(["digits", "cifar10", 'a "quoted" name\n'])
VALUES = st.one_of(st.sampled_from(BOUNDS), st.floats(0, 100))


def _lines(registry: CollectorRegistry) -> list[str]:
    text = generate_latest(registry).decode()
    return sorted(line for line in text.splitlines() if "_created" not in line)


@given(st.lists(st.tuples(LABELS, VALUES), max_size=50))
def test_says_what_the_plain_histogram_says(observed: list[tuple[str, float]]) -> None:
    ours, plain = CollectorRegistry(), CollectorRegistry()
    histogram = Histogram("h_seconds", "Help.", ["model"], BOUNDS, ours)
    expected = PlainHistogram("h_seconds", "Help.", ["model"], buckets=BOUNDS, registry=plain)
    for label, value in observed:
        # Thousandths of a power of two add up exactly in any order.
        exact = round(value * 1024) / 1024
        histogram.labels(label).observe(exact)
        expected.labels(label).observe(exact)
    assert _lines(ours) == _lines(plain)


def test_no_value_is_lost_while_metrics_are_collected() -> None:
    registry = CollectorRegistry()
    distribution = Histogram("h", "Help.", ["model"], BOUNDS, registry).labels("digits")

    def observe_many() -> None:
        for _ in range(5000):
            distribution.observe(1.0)

    threads = [threading.Thread(target=observe_many) for _ in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        generate_latest(registry)
    for thread in threads:
        thread.join()
    assert registry.get_sample_value("h_count", {"model": "digits"}) == 20000
    assert registry.get_sample_value("h_sum", {"model": "digits"}) == 20000


def test_a_trace_becomes_an_exemplar_of_its_bucket() -> None:
    registry = CollectorRegistry()
    Histogram("h", "Help.", ["model"], BOUNDS, registry).labels("digits").observe(0.3, "4bf92f35")
    text = generate_openmetrics(registry)  # type: ignore[no-untyped-call]
    [line] = [line for line in text.decode().splitlines() if "4bf92f35" in line]
    assert line.startswith('h_bucket{le="0.5",model="digits"} 1')
    assert '# {trace_id="4bf92f35"} 0.3' in line


def test_what_matches_is_removed() -> None:
    registry = CollectorRegistry()
    histogram = Histogram("h", "Help.", ["model", "version"], BOUNDS, registry)
    for version in ("1", "2"):
        histogram.labels("digits", version).observe(1)
    histogram.remove_matching({"model": "digits", "version": "1"})
    assert registry.get_sample_value("h_count", {"model": "digits", "version": "1"}) is None
    assert registry.get_sample_value("h_count", {"model": "digits", "version": "2"}) == 1


@pytest.mark.parametrize("bounds", [SECONDS, ROWS, CONFIDENCE, ENTROPY_RATIO])
def test_bounds_ascend(bounds: tuple[float, ...]) -> None:
    assert list(bounds) == sorted(set(bounds))


@pytest.mark.parametrize("seconds", [0.001, 1.0])
def test_buckets_are_fine_around_a_millisecond_and_a_second(seconds: float) -> None:
    below = max(bound for bound in SECONDS if bound < seconds)
    above = min(bound for bound in SECONDS if bound > seconds)
    assert below >= 0.7 * seconds
    assert above <= 1.5 * seconds
