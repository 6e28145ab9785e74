"""Finds the best choice by coordinate descent: provider, then parallelism, then batch size.

The coordinates depend on each other little, and a race along each of them costs seconds where the
full product would cost many minutes (docs/performance-tuning.md compares the two).
"""

import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from convd.commands.tuning.engine_choice import (
    EngineChoice,
    batch_sizes,
    parallelism,
    providers,
)
from convd.commands.tuning.race import Course, Gain, Goal, Point
from convd.commands.tuning.trial_server import Contestant, Subject, TrialError, TrialServer

_FINAL_ROUNDS = 7
_ROUNDS_FOR_ADVICE = 3
_LONE_CALLER_SECONDS = 0.5
_WINDOW_LATENCIES = 40
_SHORTEST_WINDOW_SECONDS = 1.0
_LONGEST_WINDOW_SECONDS = 5.0


@dataclass(frozen=True)
class Task:
    """What to find, and where.

    Attributes:
        subject: What to serve.
        current: The choice that `config.yaml` makes.
        callers: Most callers at a time.
        p99_seconds: The latency that 99 of 100 requests must keep; None for no bound.
        cores: Cores of the machine.
        limit_seconds: When the search gives way to the final comparison.
        alternatives: Folders of the model's versions in other precisions, by what they are.
    """

    subject: Subject
    current: EngineChoice
    callers: int
    p99_seconds: float | None
    cores: int
    limit_seconds: float
    alternatives: Mapping[str, Path]


@dataclass(frozen=True)
class Outcome:
    """What was found.

    Attributes:
        goal: What decided.
        points: All measurements.
        baseline: The default choice, in the precisions that are allowed.
        current: The choice that `config.yaml` makes; the baseline if it makes none.
        found: The best choice for one process, as far as the search could tell.
        gain: What was found against the current choice; None where they are the same.
        baseline_gain: What was found against the baseline; None where they are the same.
        workers: The best choice in several processes against one process, by their number.
        alternatives: Other versions against the best choice of this one.
        refusals: The choices that cannot be loaded, with the reason.
    """

    goal: Goal
    points: Sequence[Point]
    baseline: Contestant
    current: Contestant
    found: Contestant
    gain: Gain | None
    baseline_gain: Gain | None
    workers: Mapping[int, Gain]
    alternatives: Mapping[str, Gain]
    refusals: Mapping[str, str]

    @property
    def best(self) -> Contestant:
        """The choice to keep: what was found, unless that may be noise."""
        return self.current if self.gain is None or not self.gain.is_real else self.found

    @property
    def keeps_bound(self) -> bool:
        """Whether the best choice keeps the bound of latency, at some number of callers."""
        return any(
            point.contestant is self.best and self.goal.score(point) > 0 for point in self.points
        )


def find_best(task: Task, folder: Path, say: Callable[[str], None]) -> Outcome:
    """Find the best choice.

    Args:
        task: What to find.
        folder: An empty folder on the disk of the version's.
        say: Called with each step.

    Raises:
        TrialError: The baseline, or what `config.yaml` asks for, cannot be served here.
    """
    with TrialServer(folder / "1", task.subject) as server:
        return _Search(task, folder, server, say).run()


class _Search:
    def __init__(
        self, task: Task, folder: Path, server: TrialServer, say: Callable[[str], None]
    ) -> None:
        self._task = task
        self._folder = folder
        self._server = server
        self._say = say
        self._refusals: dict[str, str] = {}
        deadline = time.monotonic() + task.limit_seconds
        self._baseline = server.load(EngineChoice(precision_policy=task.current.precision_policy))
        lone = self._baseline.measure(1, _LONE_CALLER_SECONDS).latency_seconds[50.0]
        window_seconds = max(_SHORTEST_WINDOW_SECONDS, _WINDOW_LATENCIES * lone)
        goal = Goal(task.callers, task.p99_seconds, min(window_seconds, _LONGEST_WINDOW_SECONDS))
        self._course = Course(goal, lambda: time.monotonic() > deadline)

    def run(self) -> Outcome:
        """Descend, then compare what was found with what is there."""
        baseline, found = self._baseline, self._descend()
        known = {one.choice: one for one in (baseline, found)}
        current = known.get(self._task.current) or self._server.load(self._task.current)
        finalists = list(dict.fromkeys([baseline, current, found]))
        self._say(f"final: {' | '.join(map(str, finalists))}")
        rounds = _FINAL_ROUNDS if len(finalists) > 1 else 1
        scores = dict(zip(finalists, self._course.compare(finalists, rounds), strict=True))
        outcome = Outcome(
            self._course.goal,
            self._course.points,
            baseline,
            current,
            found,
            None if found is current else Gain.of(scores[found], scores[current]),
            None if found is baseline else Gain.of(scores[found], scores[baseline]),
            {},
            {},
            self._refusals,
        )
        return dataclasses.replace(
            outcome,
            workers=dict(self._workers(outcome.best)),
            alternatives=dict(self._alternatives(outcome.best)),
        )

    def _descend(self) -> Contestant:
        task, best = self._task, self._baseline
        best = self._race("providers", best, providers(best.choice))
        best = self._race("threads", best, parallelism(best.choice, task.cores))
        return self._race("batch sizes", best, batch_sizes(best.choice, task.callers))

    def _race(
        self, what: str, incumbent: Contestant, choices: Sequence[EngineChoice]
    ) -> Contestant:
        """The best of some choices; those that come to the same are raced once."""
        challengers: list[Contestant] = []
        for choice in choices:
            one = None if self._course.is_over() else self._load(choice)
            if one is None:
                continue
            known = [incumbent, *challengers]
            if what == "providers" and one.computed_by in {each.computed_by for each in known}:
                one.close()
            else:
                challengers.append(one)
        best = self._course.race(incumbent, challengers)
        if challengers:
            self._say(f"{what}: {best} is the best of {len(challengers) + 1}")
        return best

    def _workers(self, best: Contestant) -> Iterator[tuple[int, Gain]]:
        """Several processes against one, all on this machine."""
        count = 2
        while count <= self._task.cores and not self._course.is_over():
            self._say(f"{count} workers")
            with TrialServer(self._folder / str(count), self._task.subject, count) as server:
                contestant = server.load(best.choice)
                mine, others = self._course.compare([contestant, best], _ROUNDS_FOR_ADVICE)
                yield count, Gain.of(mine, others)
            count *= 2

    def _alternatives(self, best: Contestant) -> Iterator[tuple[str, Gain]]:
        """The model's versions in other precisions against the best choice of this one."""
        for what, folder in self._task.alternatives.items():
            self._say(what)
            choices = dict.fromkeys([self._baseline.choice, best.choice])
            loaded = [
                one for choice in choices if (one := self._load(choice, folder, what)) is not None
            ]
            if not loaded:
                continue
            chosen = self._course.race(loaded[0], loaded[1:])
            mine, theirs = self._course.compare([chosen, best], _ROUNDS_FOR_ADVICE)
            yield what, Gain.of(mine, theirs)

    def _load(
        self, choice: EngineChoice, version_folder: Path | None = None, what: str = ""
    ) -> Contestant | None:
        """Load a choice; None where it cannot be, which is noted."""
        try:
            return self._server.load(choice, version_folder, what)
        except TrialError as error:
            self._refusals[f"{what}, {choice}" if what else str(choice)] = str(error)
            return None
