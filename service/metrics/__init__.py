"""What the service counts and times, as Prometheus metrics.

Labels are bounded: a model and a version become labels only once they are resolved, and the series
of a removed version are dropped after a while.
"""

from convd.service.metrics.server import Metrics
from convd.service.metrics.version import RequestRecord, VersionMetrics

__all__ = ["Metrics", "RequestRecord", "VersionMetrics"]
