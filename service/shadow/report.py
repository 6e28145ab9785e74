"""What a comparison of two versions has found, as plain values that processes can exchange."""

import dataclasses
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

TOTAL_VARIATION_BOUNDS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9)
"""Upper bounds of the counted total variations, without infinity."""

MOST_DIFFERENT = 16
"""Pictures that a report names."""

MOST_CHANGES = 1000
"""Pairs of labels that are counted each on their own."""

OTHER_LABELS = "(other)"


class Outcome(StrEnum):
    """What became of a picture that was to be compared."""

    COMPARED = "compared"
    DROPPED = "dropped"
    UNFIT = "unfit"
    UNAVAILABLE = "unavailable"
    FAILED = "failed"


class Picture(NamedTuple):
    """A picture that is kept.

    Attributes:
        media_type: Such as `image/jpeg`.
        data: The file.
    """

    media_type: str
    data: bytes


Answer = tuple[tuple[str, float], ...]
"""The beginning of an answer: labels with their probabilities, most probable first."""


@dataclass(frozen=True)
class Difference:
    """A picture to which the versions answer differently.

    Attributes:
        total_variation: How far the answers are apart, 0 to 1.
        sha256: Of the file as the caller sent it, or of its pixels, as hexadecimal digits.
        request_id: Of the request that it came with; empty if its caller gave none.
        unix_seconds: When it was answered.
        live: What the live version answered.
        candidate: What the candidate answered.
        picture: The picture; None where none is kept.
    """

    total_variation: float
    sha256: str
    request_id: str
    unix_seconds: float
    live: Answer
    candidate: Answer
    picture: Picture | None = None


@dataclass(frozen=True)
class ComparisonReport:
    """How the answers of a candidate differ from those of the live version.

    Attributes:
        model: The model.
        live: The version that answers.
        candidate: The version that it is compared with.
        share: The share of the pictures that is compared.
        since_unix_seconds: When the comparison began.
        problem: Why nothing is compared now; empty if something is.
        waiting: Pictures that wait to be compared.
        multilabel: Whether the labels are independent.
        rank: The k of the top-k agreement.
        only_live: Labels that only the live version has.
        only_candidate: Labels that only the candidate has.
        outcomes: How many pictures ended in which way.
        top1: Pictures for which both predict the same.
        top_k: Pictures whose most probable label is among the `rank` first of the candidate.
        live_confidence: Sum of the confidences of the live version.
        candidate_confidence: Sum of those of the candidate.
        absolute_confidence: Sum of the absolute differences of both.
        total_variation: Sum of the total variations.
        buckets: Pictures up to each of `TOTAL_VARIATION_BOUNDS`, and beyond; not cumulative.
        changes: How often the live version predicts one thing, and the candidate another.
        differences: The pictures that differ most, these first.
    """

    model: str
    live: int
    candidate: int
    share: float
    since_unix_seconds: float
    problem: str = ""
    waiting: int = 0
    multilabel: bool = False
    rank: int = 1
    only_live: tuple[str, ...] = ()
    only_candidate: tuple[str, ...] = ()
    outcomes: Counter[Outcome] = field(default_factory=Counter)
    top1: int = 0
    top_k: int = 0
    live_confidence: float = 0.0
    candidate_confidence: float = 0.0
    absolute_confidence: float = 0.0
    total_variation: float = 0.0
    buckets: tuple[int, ...] = (0,) * (len(TOTAL_VARIATION_BOUNDS) + 1)
    changes: Counter[tuple[str, str]] = field(default_factory=Counter)
    differences: tuple[Difference, ...] = ()

    @property
    def compared(self) -> int:
        """Number of pictures that were compared."""
        return self.outcomes[Outcome.COMPARED]

    def joined(self, other: "ComparisonReport") -> "ComparisonReport":
        """What two processes have found together, about the same versions."""
        return dataclasses.replace(
            self,
            since_unix_seconds=min(self.since_unix_seconds, other.since_unix_seconds),
            problem=self.problem or other.problem,
            waiting=self.waiting + other.waiting,
            outcomes=self.outcomes + other.outcomes,
            top1=self.top1 + other.top1,
            top_k=self.top_k + other.top_k,
            live_confidence=self.live_confidence + other.live_confidence,
            candidate_confidence=self.candidate_confidence + other.candidate_confidence,
            absolute_confidence=self.absolute_confidence + other.absolute_confidence,
            total_variation=self.total_variation + other.total_variation,
            buckets=tuple(map(sum, zip(self.buckets, other.buckets, strict=True))),
            changes=self.changes + other.changes,
            differences=most_different([*self.differences, *other.differences]),
        )


def most_different(found: Iterable[Difference]) -> tuple[Difference, ...]:
    """The pictures that differ most, each once, these first."""
    ranked = sorted(found, key=lambda one: one.total_variation, reverse=True)
    by_content: dict[str, Difference] = {}
    for one in ranked:
        by_content.setdefault(one.sha256, one)
    return tuple(by_content.values())[:MOST_DIFFERENT]


def join_reports(parts: Iterable[Iterable[ComparisonReport]]) -> list[ComparisonReport]:
    """Join the reports of several processes, sorted by model and versions."""
    joined: dict[tuple[str, int, int], ComparisonReport] = {}
    for part in parts:
        for report in part:
            key = report.model, report.live, report.candidate
            joined[key] = joined[key].joined(report) if key in joined else report
    return [joined[key] for key in sorted(joined)]
