"""Histograms that cost a request one append.

A histogram of prometheus_client searches its buckets and takes two locks for every value, about a
microsecond each time, and a small network answers a request in 150 microseconds. Here observations
are buffered and aggregated in bulk, when the buffer fills or on read.
"""

import bisect
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from prometheus_client import CollectorRegistry
from prometheus_client.core import HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar
from prometheus_client.utils import floatToGoString

Bucket = tuple[str, float] | tuple[str, float, Exemplar]
"""Upper bound, cumulative count and, where there is one, an exemplar."""

_MAX_BUFFERED = 512


class Distribution:
    """The values of one set of labels.

    Args:
        bounds: Upper bounds of the buckets, ascending, without infinity.

    Attributes:
        buffer: Values that are not sorted into buckets yet.
        feeds: Called before the distribution is read, to add values that are buffered elsewhere.
    """

    __slots__ = ("_bounds", "_counts", "_exemplars", "_lock", "_sum", "buffer", "feeds")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.feeds: list[Callable[[], None]] = []
        self._bounds = np.asarray(bounds, np.float64)
        self._counts = np.zeros(len(bounds) + 1, np.int64)
        self._exemplars: list[Exemplar | None] = [None] * (len(bounds) + 1)
        self._sum = 0.0
        # Appending to a deque and taking from it need no lock.
        self.buffer: deque[float] = deque()
        self._lock = threading.Lock()

    def observe(self, value: float, trace_id: str = "") -> None:
        """Observe one value.

        Args:
            value: The value, in the unit of the histogram's name.
            trace_id: The trace that it belongs to, for an exemplar; empty for none.
        """
        self.buffer.append(value)
        if trace_id:
            bucket = bisect.bisect_left(self._bounds, value)
            self._exemplars[bucket] = Exemplar({"trace_id": trace_id}, value, time.time())
        if len(self.buffer) >= _MAX_BUFFERED:
            self.sort_in()

    def observe_all(self, values: "np.ndarray") -> None:
        """Observe many values at once."""
        with self._lock:
            self._add(values)

    @property
    def count(self) -> int:
        """The number of values."""
        self._complete()
        return int(self._counts.sum())

    def buckets(self) -> tuple[list[Bucket], float]:
        """Cumulative counts by upper bound with their exemplars, and the sum of all values."""
        self._complete()
        with self._lock:
            cumulative = self._counts.cumsum().tolist()
            total = self._sum
        names = [*map(floatToGoString, self._bounds.tolist()), "+Inf"]
        rows = zip(names, cumulative, self._exemplars, strict=True)
        return [(name, n, seen) if seen else (name, n) for name, n, seen in rows], total

    def _complete(self) -> None:
        for feed in list(self.feeds):
            feed()
        self.sort_in()

    def sort_in(self) -> None:
        """Sort the buffered values into their buckets."""
        with self._lock:
            buffer = self.buffer
            self._add(np.array([buffer.popleft() for _ in range(len(buffer))], np.float64))

    def _add(self, values: "np.ndarray") -> None:
        places = np.searchsorted(self._bounds, values, side="left")
        self._counts += np.bincount(places, minlength=len(self._counts))
        self._sum += float(values.sum())


class Histogram(Collector):
    """A family of distributions, one for each set of labels.

    Args:
        name: Name of the metric, with its unit.
        documentation: Its help text.
        label_names: Names of the labels.
        bounds: Upper bounds of the buckets, ascending, without infinity.
        registry: Collects the histogram.
    """

    def __init__(
        self,
        name: str,
        documentation: str,
        label_names: Sequence[str],
        bounds: Sequence[float],
        registry: CollectorRegistry,
    ) -> None:
        self._name = name
        self._documentation = documentation
        self._label_names = tuple(label_names)
        self._bounds = bounds
        self._lock = threading.Lock()
        self._distributions: dict[tuple[str, ...], Distribution] = {}
        registry.register(self)

    def labels(self, *values: str) -> Distribution:
        """The distribution of one set of labels, created on first use."""
        found = self._distributions.get(values)
        if found is not None:
            return found
        with self._lock:
            return self._distributions.setdefault(values, Distribution(self._bounds))

    def observe(self, labels: tuple[str, ...], value: float, trace_id: str = "") -> None:
        """Observe one value for one set of labels."""
        distribution = self._distributions.get(labels)
        if distribution is None:
            distribution = self.labels(*labels)
        if trace_id:
            distribution.observe(value, trace_id)
            return
        # Without a call more: every request comes here.
        buffer = distribution.buffer
        buffer.append(value)
        if len(buffer) >= _MAX_BUFFERED:
            distribution.sort_in()

    def adopt(self, values: tuple[str, ...], distribution: Distribution) -> None:
        """Export an existing distribution; it replaces one with the same labels."""
        with self._lock:
            self._distributions[values] = distribution

    def remove_matching(self, labels: dict[str, str]) -> None:
        """Drop every distribution that has all these labels."""
        wanted = [(self._label_names.index(name), value) for name, value in labels.items()]
        with self._lock:
            for values in list(self._distributions):
                if all(values[place] == value for place, value in wanted):
                    del self._distributions[values]

    def distributions(self) -> list[tuple[tuple[str, ...], Distribution]]:
        """Every distribution with its labels."""
        with self._lock:
            return list(self._distributions.items())

    def describe(self) -> Iterable[Metric]:
        """The family without its samples."""
        return [HistogramMetricFamily(self._name, self._documentation, labels=self._label_names)]

    def collect(self) -> Iterable[Metric]:
        """The family with its samples."""
        family = HistogramMetricFamily(self._name, self._documentation, labels=self._label_names)
        for values, distribution in self.distributions():
            # Forty series that are all 0, for each stage of each idle model, would be most of all.
            if distribution.count:
                buckets, total = distribution.buckets()
                family.add_metric(values, buckets, total)
        return [family]
