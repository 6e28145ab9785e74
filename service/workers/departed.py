"""What the ended processes of a worker have counted."""

import time
from collections.abc import Callable, Iterator, Sequence

from prometheus_client import Metric

from convd.service.lifecycle.version_metrics import KEEP_SECONDS
from convd.service.statistics import StatisticsByVersion, add_up_statistics
from convd.service.workers.aggregation import add_up, only_counts
from convd.service.workers.worker import Report

_Version = tuple[str, str]

_STATES = "convd_version_state"


class DepartedCounts:
    """Counts that outlive a process, for as long as a process itself would keep them.

    Versions that are gone from the repository are forgotten, else every restart would add the
    series of those that have come and gone since the last one.

    Args:
        clock: A monotonic clock, in seconds.

    Attributes:
        metrics: The counters and histograms of the ended processes.
        statistics: Their statistics.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.metrics: list[Metric] = []
        self.statistics: StatisticsByVersion = {}
        self._clock = clock
        self._last_seen: dict[_Version, float] = {}

    def include(self, report: Report) -> None:
        """Add the last report of a process that has ended."""
        now = self._clock()
        self.metrics = add_up([self.metrics, only_counts(report.metrics)])
        self.statistics = add_up_statistics([self.statistics, report.statistics])
        for version in _versions(self.metrics):
            self._last_seen.setdefault(version, now)
        present = [metric for metric in report.metrics if metric.name == _STATES]
        self._last_seen.update(dict.fromkeys(_versions(present), now))
        # A process that was not ready may not have seen all that there is.
        if not report.unready_reason:
            self._forget(
                {one for one, seen in self._last_seen.items() if now - seen > KEEP_SECONDS}
            )

    def _forget(self, gone: set[_Version]) -> None:
        for version in gone:
            del self._last_seen[version]
        for metric in self.metrics:
            metric.samples = [one for one in metric.samples if _version(one.labels) not in gone]
        for name, number in [key for key in self.statistics if (key[0], str(key[1])) in gone]:
            del self.statistics[name, number]


def _versions(metrics: Sequence[Metric]) -> Iterator[_Version]:
    for metric in metrics:
        for sample in metric.samples:
            version = _version(sample.labels)
            if all(version):
                yield version


def _version(labels: dict[str, str]) -> _Version:
    return labels.get("model", ""), labels.get("version", "")
