"""`make pooling`: does max pooling work better than average or sum pooling? Writes docs/pooling.md.

LeNet-5 on digits, everything else equal. A seed decides the split, the first weights and the order,
so that runs with the same seed are compared pair by pair.
"""

import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from scipy import stats

from bench.machine import machine
from convd.models.settings import TrainingSettings
from convd.models.training import train

REPORT = Path("docs/pooling.md")
POOLINGS = ("max", "average", "sum")
# The sum is four times the average, and may want smaller steps.
LEARNING_RATES = (0.0125, 0.05)
SEEDS = range(8)
CONFIDENCE = 0.95


class Comparison(NamedTuple):
    """Max pooling against another, over the same seeds, in percentage points.

    Attributes:
        other: The other pooling.
        mean: Mean of max's accuracy minus the other's.
        low: Lower end of the confidence interval of that mean.
        high: Its upper end.
    """

    other: str
    mean: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """What may be said."""
        if self.low > 0:
            return f"max pooling is better than {self.other} pooling"
        if self.high < 0:
            return f"max pooling is worse than {self.other} pooling"
        return f"max and {self.other} pooling cannot be told apart"


Accuracies = dict[tuple[str, float], list[float]]
"""Held-out accuracy of each seed, by pooling and learning rate."""


def main() -> None:
    """Train every combination and write the report."""
    began = time.monotonic()
    where = machine()
    accuracies: Accuracies = {}
    for pooling in POOLINGS:
        for learning_rate in LEARNING_RATES:
            results = [_accuracy(pooling, learning_rate, seed) for seed in SEEDS]
            accuracies[pooling, learning_rate] = results
            print(f"{pooling} at {learning_rate}: {_mean_and_spread(results)}", flush=True)
    minutes = (time.monotonic() - began) / 60
    REPORT.write_text(_report(accuracies, where, minutes), encoding="utf-8")
    print(f"\n{REPORT} after {minutes:.1f} minutes")


def _accuracy(pooling: str, learning_rate: float, seed: int) -> float:
    settings = TrainingSettings(
        architecture="lenet5",
        options={"pooling": pooling},
        data="digits",
        learning_rate=learning_rate,
        seed=seed,
    )
    with tempfile.TemporaryDirectory() as folder:
        result = train(settings, Path(folder), console=Console(quiet=True))
    assert result.description.accuracy is not None  # noqa: S101
    return result.description.accuracy.top1


def compare(ours: list[float], others: list[float], other: str) -> Comparison:
    """Paired comparison of accuracies of the same seeds (Student's t)."""
    differences = [(a - b) * 100 for a, b in zip(ours, others, strict=True)]
    mean = statistics.mean(differences)
    error = statistics.stdev(differences) / len(differences) ** 0.5
    reach = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(differences) - 1)) * error
    return Comparison(other, mean, mean - reach, mean + reach)


def _report(accuracies: Accuracies, where: str, minutes: float) -> str:
    best = {
        pooling: max(LEARNING_RATES, key=lambda rate: statistics.mean(accuracies[pooling, rate]))
        for pooling in POOLINGS
    }
    comparisons = [
        compare(accuracies["max", best["max"]], accuracies[other, best[other]], other)
        for other in POOLINGS[1:]
    ]
    lines = [
        "# Max, average or sum pooling?",
        "",
        "It is often said that max pooling works better than average pooling. This page measures "
        f"it: LeNet-5 on scikit-learn's digits, {len(SEEDS)} seeds, everything but the pooling and "
        "the learning rate equal. `make pooling` writes it.",
        "",
        "**Verdict, for this network and these data:** "
        + "; ".join(each.verdict for each in comparisons)
        + ".",
        "",
        "| pooling | " + " | ".join(f"learning rate {rate}" for rate in LEARNING_RATES) + " |",
        "| --- |" + " ---: |" * len(LEARNING_RATES),
    ]
    lines += [
        f"| {pooling} | "
        + " | ".join(_mean_and_spread(accuracies[pooling, rate]) for rate in LEARNING_RATES)
        + " |"
        for pooling in POOLINGS
    ]
    lines += [
        "",
        f"Held-out accuracy on 360 digits, mean and standard deviation over {len(SEEDS)} seeds. "
        "Each pooling at its own best learning rate, seed by seed:",
        "",
        f"| max minus | mean, percentage points | {CONFIDENCE:.0%} confidence interval |",
        "| --- | ---: | ---: |",
    ]
    lines += [
        f"| {each.other} | {each.mean:+.2f} | {each.low:+.2f} to {each.high:+.2f} |"
        for each in comparisons
    ]
    lines += [
        "",
        "| seed | " + " | ".join(f"{each} at {best[each]}" for each in POOLINGS) + " |",
        "| --- |" + " ---: |" * len(POOLINGS),
    ]
    lines += [
        f"| {seed} | "
        + " | ".join(f"{accuracies[each, best[each]][seed]:.2%}" for each in POOLINGS)
        + " |"
        for seed in SEEDS
    ]
    lines += [
        "",
        "One picture is 0.28 percentage points. The learning rate was chosen by the same accuracy "
        "that is compared, in the same way for each pooling.",
        "",
        f"Machine: {where} The whole run took {minutes:.0f} minutes.",
        "",
    ]
    return "\n".join(lines)


def _mean_and_spread(accuracies: list[float]) -> str:
    return f"{statistics.mean(accuracies):.2%} ± {statistics.stdev(accuracies) * 100:.2f}"


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    main()
