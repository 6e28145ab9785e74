"""Memory, threads and descriptors of a server with all its processes, over time."""

import contextlib
import dataclasses
import threading
import time
from pathlib import Path

import numpy as np
import psutil

MEBIBYTE = 1024 * 1024


@dataclasses.dataclass(frozen=True)
class Vitals:
    """What all processes of a server take together at one moment.

    Attributes:
        seconds: When, since the beginning.
        resident_mebibytes: Resident memory.
        threads: Threads.
        descriptors: Open files and sockets.
        processes: Processes.
    """

    seconds: float
    resident_mebibytes: float
    threads: int
    descriptors: int
    processes: int


class VitalsWatch:
    """Looks at a server once a second.

    Args:
        pid: The server.

    Attributes:
        seen: What was seen, second by second.
    """

    def __init__(self, pid: int) -> None:
        self.seen: list[Vitals] = []
        self._process = psutil.Process(pid)
        self._began = time.monotonic()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> "VitalsWatch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def look(self) -> Vitals:
        """What they take now."""
        processes = [self._process, *self._process.children(recursive=True)]
        resident = threads = descriptors = 0
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess), process.oneshot():
                resident += process.memory_info().rss
                threads += process.num_threads()
                descriptors += process.num_fds()
        seconds = time.monotonic() - self._began
        return Vitals(seconds, resident / MEBIBYTE, threads, descriptors, len(processes))

    def _watch(self) -> None:
        while not self._stop.wait(1.0):
            with contextlib.suppress(psutil.Error):
                self.seen.append(self.look())


def rise(values: list[float]) -> float:
    """By how much the straight line through values rises over their second half."""
    half = values[len(values) // 2 :]
    if len(half) < 2:
        return 0.0
    slope = float(np.polyfit(np.arange(len(half)), half, 1)[0])
    return slope * (len(half) - 1)


def plot(seen: list[Vitals], idle: list[Vitals], path: Path) -> None:
    """Draw what was seen; the moments without load are marked."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "convd"
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(3, 1, figsize=(8, 6), sharex=True)
    for axis, name, label in zip(
        axes,
        ("resident_mebibytes", "threads", "descriptors"),
        ("resident MiB", "threads", "descriptors"),
        strict=True,
    ):
        minutes = [vitals.seconds / 60 for vitals in seen]
        axis.plot(minutes, [getattr(vitals, name) for vitals in seen], linewidth=0.8)
        minutes = [vitals.seconds / 60 for vitals in idle]
        axis.plot(minutes, [getattr(vitals, name) for vitals in idle], "o", markersize=3)
        axis.set_ylabel(label)
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.3)
    axes[-1].set_xlabel("minutes; dots: after each round, without load")
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
