"""What a load has shown: rates, percentiles, statuses, and a plot of them."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from convd.commands.load_generator import OK, Sample

PERCENTILES = (50.0, 90.0, 95.0, 99.0, 99.9)


@dataclass(frozen=True)
class LoadReport:
    """A summary of samples.

    Attributes:
        seconds: From the first request to the last answer.
        requests: Requests that were sent.
        requests_per_second: Requests that were answered well, in a second.
        images_per_second: Their images, in a second.
        codes: Requests by gRPC status.
        latency_seconds: Percentiles of those that were answered well, by percent; 100 is the
            slowest.
        refusal_seconds: The same of all others.
    """

    seconds: float
    requests: int
    requests_per_second: float
    images_per_second: float
    codes: dict[str, int]
    latency_seconds: dict[float, float]
    refusal_seconds: dict[float, float]


def summarize(samples: Sequence[Sample], *, warm_up_seconds: float = 0.0) -> LoadReport:
    """Summarize samples.

    Args:
        samples: The samples.
        warm_up_seconds: Requests that began earlier than this are left out.

    Raises:
        ValueError: Nothing is left.
    """
    counted = [sample for sample in samples if sample.started_at >= warm_up_seconds]
    if not counted:
        raise ValueError("no request was sent after the warm-up: let the load last longer")
    began = min(sample.started_at for sample in counted)
    seconds = max(sample.started_at + sample.seconds for sample in counted) - began
    good = [sample for sample in counted if sample.code == OK]
    refused = [sample for sample in counted if sample.code != OK]
    return LoadReport(
        seconds=seconds,
        requests=len(counted),
        requests_per_second=len(good) / seconds,
        images_per_second=sum(sample.rows for sample in good) / seconds,
        codes=dict(Counter(sample.code for sample in counted)),
        latency_seconds=_percentiles(good),
        refusal_seconds=_percentiles(refused),
    )


def plot(samples: Sequence[Sample], path: Path, title: str) -> None:
    """Draw latency by percentile, and latency over time, as a picture.

    Args:
        samples: The samples.
        path: Where to write; the suffix says the format.
        title: Above the picture.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, (by_percentile, over_time) = plt.subplots(1, 2, figsize=(12, 4.5))
    figure.suptitle(title)
    for code in sorted({sample.code for sample in samples}):
        chosen = [sample for sample in samples if sample.code == code]
        milliseconds = np.array([sample.seconds for sample in chosen]) * 1e3
        label = f"{code} ({len(chosen)})"
        # Percentiles by their number of nines, so that the tail can be seen.
        rank = (np.arange(len(chosen)) + 0.5) / len(chosen)
        by_percentile.plot(1 / (1 - rank), np.sort(milliseconds), label=label)
        over_time.plot([one.started_at for one in chosen], milliseconds, ".", ms=2, label=label)
    by_percentile.set_xscale("log")
    ticks = [1, 2, 10, 100, 1000, 10_000]
    by_percentile.set_xticks(ticks, ["0", "50", "90", "99", "99.9", "99.99"])
    by_percentile.set_xlabel("percentile")
    over_time.set_xlabel("time of the request (s)")
    for axes in (by_percentile, over_time):
        axes.set_ylabel("latency (ms)")
        axes.set_ylim(bottom=0)
        axes.grid(visible=True, alpha=0.3)
        axes.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _percentiles(samples: Sequence[Sample]) -> dict[float, float]:
    if not samples:
        return {}
    seconds = np.array([sample.seconds for sample in samples])
    values = np.percentile(seconds, [*PERCENTILES, 100.0])
    return dict(zip((*PERCENTILES, 100.0), values.tolist(), strict=True))
