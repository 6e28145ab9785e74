"""What the service counts and times, in Prometheus' terms.

Labels are bounded: a model and a version become labels only after they were resolved, and the
series of a version that is gone are dropped after a while.
"""

from convd.service.metrics.server import Metrics
from convd.service.metrics.version import RequestRecord, VersionMetrics

__all__ = ["Metrics", "RequestRecord", "VersionMetrics"]
