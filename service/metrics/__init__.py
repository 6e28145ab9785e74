"""What the service counts and times, in Prometheus' terms.

Labels are bounded: a model and a version become labels only after they were resolved, and the
series of a version that is gone are dropped after a while.
"""

from convd.service.metrics.servables import VersionMetrics
from convd.service.metrics.server import Metrics

__all__ = ["Metrics", "VersionMetrics"]
