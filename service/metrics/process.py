"""Metrics of the process: CPU time, memory, file descriptors, threads and garbage collection."""

import threading
from pathlib import Path

from prometheus_client import (
    CollectorRegistry,
    Gauge,
    GCCollector,
    Info,
    PlatformCollector,
    ProcessCollector,
)

from convd import __version__

_TASKS = Path("/proc/self/task")


def register_process_metrics(registry: CollectorRegistry) -> None:
    """Collect what the operating system and Python report about this process."""
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    threads = Gauge("convd_process_threads", "Threads of the process.", registry=registry)
    threads.set_function(_thread_count)
    build = Info("convd_build", "The running version of convd.", registry=registry)
    build.info({"version": __version__})


def _thread_count() -> float:
    """Threads of the process, including those of native libraries; only Python's off Linux."""
    if _TASKS.is_dir():
        return len(list(_TASKS.iterdir()))
    return threading.active_count()
