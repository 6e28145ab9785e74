"""What Prometheus scrapes of several workers: all families, or those that it names."""

from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry, Metric


class WorkersRegistry(CollectorRegistry):
    """A registry whose families are known when they are collected only.

    Prometheus' own looks up the collector of a name in what collectors describe beforehand, and
    workers may show any family.

    Args:
        collect: Gives the metrics of all workers as one.
    """

    def __init__(self, collect: Callable[[], Iterator[Metric]]) -> None:
        super().__init__()
        self._collect = collect

    def collect(self) -> Iterator[Metric]:
        """Every family."""
        return self._collect()

    def restricted_registry(  # type: ignore[override]
        self, names: Iterable[str]
    ) -> "WorkersRegistry":
        """A registry with the families, or the samples of them, that have some names."""
        wanted = frozenset(names)

        def collect() -> Iterator[Metric]:
            for metric in self._collect():
                samples = [one for one in metric.samples if one.name in wanted]
                if metric.name in wanted:
                    yield metric
                elif samples:
                    part = Metric(metric.name, metric.documentation, metric.type, metric.unit)
                    part.samples = samples
                    yield part

        return WorkersRegistry(collect)
