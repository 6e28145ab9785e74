"""Races between choices on a machine that does other things too.

Contestants run in turns, so that whatever else the machine does disturbs all of them alike; medians
over the rounds decide, and those without hope leave early (successive halving: Jamieson and
Talwalkar, "Non-stochastic Best Arm Identification and Hyperparameter Optimization", 2016).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from convd.commands.load_report import LoadReport
from convd.commands.tuning.trial_server import Contestant

_BARS = (0.5, 0.8, 0.9, 0.95)
"""For each round, the share of the best median below which a contestant is without hope."""

_WORTH_A_CHANGE = 1.02
"""Minimum ratio by which a race's winner beats the choice that was there before."""

LEAST_GAIN = 0.03
"""Minimum gain that is worth a configuration, however well it was measured."""

_CALLERS_STEP = 4
_NORMAL = 1.4826
"""Standard deviation of normally distributed values by their median absolute deviation."""

_MEDIAN_ERROR = 1.2533
"""Standard error of the median of normally distributed values by that of their mean."""


@dataclass(frozen=True)
class Point:
    """A measurement.

    Attributes:
        contestant: What was measured.
        callers: Callers that waited for answers.
        report: What they saw.
    """

    contestant: Contestant
    callers: int
    report: LoadReport

    @property
    def p99_seconds(self) -> float:
        """The latency that 99 of 100 requests keep."""
        return self.report.latency_seconds[99.0]


@dataclass(frozen=True)
class Goal:
    """What makes a choice good: throughput, within a bound of latency if there is one.

    Attributes:
        callers: Most callers at a time.
        p99_seconds: The latency that 99 of 100 requests must keep; None for no bound.
        window_seconds: How long one measurement lasts.
    """

    callers: int
    p99_seconds: float | None
    window_seconds: float

    @property
    def levels(self) -> list[int]:
        """Numbers of callers to try until the bound is kept, most first."""
        if self.p99_seconds is None:
            return [self.callers]
        steps = range(int(math.log(self.callers, _CALLERS_STEP)) + 1)
        return sorted({1, *(self.callers // _CALLERS_STEP**step for step in steps)}, reverse=True)

    def score(self, point: Point) -> float:
        """Images per second; where the bound is not kept, minus the latency in seconds."""
        if self.p99_seconds is not None and point.p99_seconds > self.p99_seconds:
            return -point.p99_seconds
        return point.report.images_per_second


class Course:
    """Where races are run; keeps every measurement.

    Args:
        goal: What decides.
        is_over: Whether there is no time for another round.

    Attributes:
        is_over: The same.
        points: All measurements so far.
    """

    def __init__(self, goal: Goal, is_over: Callable[[], bool] = lambda: False) -> None:
        self.goal = goal
        self.points: list[Point] = []
        self.is_over = is_over

    def race(self, incumbent: Contestant, challengers: Sequence[Contestant]) -> Contestant:
        """Find the best; the incumbent stays unless another is better by more than a trifle.

        The challengers that lose are unloaded, those without hope at once.
        """
        scores: dict[Contestant, list[float]] = {one: [] for one in (incumbent, *challengers)}
        for bar in _BARS:
            if len(scores) == 1 or self.is_over():
                break
            for one, seen in scores.items():
                seen.append(self.run_once(one))
            ranks = {one: median(seen) for one, seen in scores.items()}
            for one in list(scores):
                if one is not incumbent and ratio(ranks[one], max(ranks.values())) < bar:
                    del scores[one]
                    one.close()
        ranks = {one: median(seen) for one, seen in scores.items() if seen}
        best = max(ranks, key=lambda one: ranks[one], default=incumbent)
        if best is not incumbent and ratio(ranks[best], ranks[incumbent]) < _WORTH_A_CHANGE:
            best = incumbent
        for one in scores:
            if one not in (best, incumbent):
                one.close()
        return best

    def run_once(self, contestant: Contestant) -> float:
        """Measure a contestant once; its score.

        With a bound, callers become fewer until it is kept.
        """
        for callers in self.goal.levels:
            report = contestant.measure(callers, self.goal.window_seconds)
            point = Point(contestant, callers, report)
            self.points.append(point)
            score = self.goal.score(point)
            if score > 0:
                break
        return score

    def compare(self, contestants: Sequence[Contestant], rounds: int) -> list[list[float]]:
        """Scores of each contestant, one for each round; they run in turns."""
        scores: list[list[float]] = [[] for _ in contestants]
        for number in range(rounds):
            order = list(enumerate(contestants))
            # Whoever always came second would always find the caches as the first has left them.
            for index, one in order if number % 2 == 0 else reversed(order):
                scores[index].append(self.run_once(one))
        return scores


@dataclass(frozen=True)
class Gain:
    """How much better one choice is than another.

    Attributes:
        ratio: Median over the rounds of its score by the other's.
        noise: Twice the standard error of that median.
    """

    ratio: float
    noise: float

    @classmethod
    def of(cls, better: Sequence[float], other: Sequence[float]) -> "Gain":
        """Compare the scores of the same rounds."""
        ratios = [ratio(one, two) for one, two in zip(better, other, strict=True)]
        middle = median(ratios)
        spread = _NORMAL * median(abs(one - middle) for one in ratios)
        return cls(middle, 2 * _MEDIAN_ERROR * spread / math.sqrt(len(ratios)))

    @property
    def is_real(self) -> bool:
        """Whether it is more than noise, and worth a configuration."""
        return self.ratio - 1 > max(self.noise, LEAST_GAIN)


def ratio(score: float, other: float) -> float:
    """How many times better a score is; a score below 0 is a latency beyond the bound."""
    if score > 0 and other > 0:
        return score / other
    if score <= 0 and other <= 0:
        return other / score
    return math.inf if score > 0 else 0.0
