"""The counts of ended processes stay while their versions do."""

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge

from convd.service.lifecycle.version_metrics import KEEP_SECONDS
from convd.service.statistics import Statistics
from convd.service.workers.departed import DepartedCounts
from convd.service.workers.worker import Report


def report(listed: Sequence[int], counted: Sequence[int], unready_reason: str = "") -> Report:
    """Of a process that has counted a call of some versions, and lists others."""
    registry = CollectorRegistry()
    requests = Counter("convd_requests", "Requests.", ["model", "version"], registry=registry)
    requests.labels("", "").inc()
    states = Gauge("convd_version_state", "State.", ["model", "version"], registry=registry)
    for version in counted:
        requests.labels("pets", str(version)).inc()
    for version in listed:
        states.labels("pets", str(version)).set(1)
    statistics = {("pets", version): Statistics(rows=1) for version in counted}
    return Report(unready_reason, "", list(registry.collect()), statistics)


def counts(departed: DepartedCounts) -> dict[str, float]:
    return {
        sample.labels["version"]: sample.value
        for metric in departed.metrics
        for sample in metric.samples
        if sample.name == "convd_requests_total"
    }


def test_versions_that_are_gone_are_forgotten_in_time() -> None:
    now = 0.0
    departed = DepartedCounts(lambda: now)
    departed.include(report([1, 2], [1, 2]))
    departed.include(report([2], [1, 2]))
    assert counts(departed) == {"": 2, "1": 2, "2": 2}
    now += KEEP_SECONDS + 1
    departed.include(report([], [], unready_reason="loading"))
    assert counts(departed) == {"": 3, "1": 2, "2": 2}
    departed.include(report([2, 3], [2, 3]))
    assert counts(departed) == {"": 4, "2": 3, "3": 1}
    assert {version for _, version in departed.statistics} == {2, 3}


def test_what_comes_and_goes_between_restarts_adds_up_to_nothing() -> None:
    now = 0.0
    departed = DepartedCounts(lambda: now)
    for version in range(1, 200):
        now += KEEP_SECONDS / 2
        departed.include(report([version], [version - 1, version]))
    assert len(counts(departed)) < 8
    assert len(departed.statistics) < 8
