"""Compares the answers of two versions, with their classes matched by name."""

import hashlib
import threading
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from convd.artifact.answers import confidences, predictions
from convd.artifact.manifest import Manifest
from convd.service.shadow.report import (
    MOST_CHANGES,
    MOST_DIFFERENT,
    OTHER_LABELS,
    TOTAL_VARIATION_BOUNDS,
    Answer,
    ComparisonReport,
    Difference,
    Outcome,
    Picture,
    most_different,
)

_MOST_RANK = 5
_SHOWN_CLASSES = 3
_NO_LABEL = "(none)"
_MAX_TEXT = 200


class MatchedClasses:
    """The classes of two versions by name, whatever their order; a missing one is improbable.

    Args:
        live: Manifest of the live version.
        candidate: Manifest of the candidate.
    """

    def __init__(self, live: Manifest, candidate: Manifest) -> None:
        own, others = set(live.labels), set(candidate.labels)
        self.only_live = tuple(label for label in live.labels if label not in others)
        self.only_candidate = tuple(label for label in candidate.labels if label not in own)
        self.labels = (*live.labels, *self.only_candidate)
        place = {label: index for index, label in enumerate(self.labels)}
        self._places = np.array([place[label] for label in candidate.labels])
        self.same_task = live.task == candidate.task
        self.task = live.task

    def align(
        self, live: NDArray[np.float32], candidate: NDArray[np.float32]
    ) -> NDArray[np.float64]:
        """Put both answers to one picture into the order of `labels`: float64 `[2, labels]`.

        Args:
            live: float32 `[classes of the live version]`.
            candidate: float32 `[classes of the candidate]`.
        """
        both = np.zeros((2, len(self.labels)))
        both[0, : len(live)] = live
        both[1, self._places] = candidate
        return both


class Comparison:
    """What was found so far of two versions; safe for threads.

    Args:
        model: The model.
        live: Number and manifest of the live version.
        candidate: Number and manifest of the candidate.

    Attributes:
        versions: Both, as they were given.
        classes: The classes of both.
        channel_order: That of the live version's input.
        same_preprocessing: Whether both take the same input.
    """

    def __init__(
        self, model: str, live: tuple[int, Manifest], candidate: tuple[int, Manifest]
    ) -> None:
        self.model = model
        self.versions = live, candidate
        (self.live, live_manifest), (self.candidate, candidate_manifest) = live, candidate
        self.classes = MatchedClasses(live_manifest, candidate_manifest)
        self.channel_order = live_manifest.preprocessing.channel_order
        self.same_preprocessing = live_manifest.preprocessing == candidate_manifest.preprocessing
        # Among all classes, every label would be one of the first.
        self._rank = max(1, min(_MOST_RANK, len(candidate_manifest.labels) - 1))
        self._since = time.time()
        self._lock = threading.Lock()
        self._outcomes: Counter[Outcome] = Counter()
        self._top1 = self._top_k = 0
        # Confidence of the live version, of the candidate, their absolute difference, and the total
        # variation.
        self._sums = np.zeros(4)
        self._buckets = [0] * (len(TOTAL_VARIATION_BOUNDS) + 1)
        self._changes: Counter[tuple[str, str]] = Counter()
        self._differences: tuple[Difference, ...] = ()

    def count(self, outcome: Outcome, pictures: int = 1) -> None:
        """Count pictures that were not compared."""
        with self._lock:
            self._outcomes[outcome] += pictures

    def add(
        self,
        live: NDArray[np.float32],
        candidate: NDArray[np.float32],
        content: bytes | memoryview,
        keep: Callable[[], Picture | None],
        *,
        request_id: str = "",
        unix_seconds: float = 0.0,
    ) -> None:
        """Compare the answers to one picture.

        Args:
            live: Probabilities, float32 `[classes of the live version]`.
            candidate: Probabilities, float32 `[classes of the candidate]`.
            content: What the caller sent.
            keep: Makes what is kept of the picture; called if it is among those that differ most.
            request_id: Of the request that it came with.
            unix_seconds: When it was answered.
        """
        both = self.classes.align(live, candidate)
        multilabel = self.classes.task == "multilabel"
        apart = np.abs(both[0] - both[1])
        # Of independent labels, each has a distribution of its own: the one that differs most.
        variation = min(1.0, float(apart.max() if multilabel else apart.sum() / 2))
        predicted = predictions(both, self.classes.task)
        sure = confidences(both, self.classes.task)
        # The rank among the candidate's classes, ties in the order of its own answer.
        first = int(both[0].argmax())
        ahead = int((both[1] > both[1][first]).sum())
        same = bool((predicted[0] == predicted[1]).all())
        with self._lock:
            self._outcomes[Outcome.COMPARED] += 1
            self._top1 += same
            self._top_k += ahead < self._rank and both[1][first] > 0
            self._sums += (*sure, abs(sure[0] - sure[1]), variation)
            self._buckets[bisect_left(TOTAL_VARIATION_BOUNDS, variation)] += 1
            if not same:
                self._count_change(*map(self._predicted, predicted))
            differences = self._differences
        least = differences[-1].total_variation if len(differences) == MOST_DIFFERENT else 0.0
        if variation > least:
            difference = Difference(
                variation,
                hashlib.sha256(content).hexdigest(),
                request_id[:_MAX_TEXT],
                unix_seconds,
                self._answer(both[0]),
                self._answer(both[1]),
                keep(),
            )
            with self._lock:
                self._differences = most_different([*self._differences, difference])

    def forget_pictures(self) -> None:
        """Drop the pictures that are kept."""
        with self._lock:
            self._differences = tuple(
                Difference(**(vars(one) | {"picture": None})) for one in self._differences
            )

    def report(self, share: float, waiting: int, problem: str) -> ComparisonReport:
        """What was found so far; the arguments are as in the report."""
        with self._lock:
            live, candidate, absolute, variation = map(float, self._sums)
            return ComparisonReport(
                model=self.model,
                live=self.live,
                candidate=self.candidate,
                share=share,
                since_unix_seconds=self._since,
                problem=problem,
                waiting=waiting,
                multilabel=self.classes.task == "multilabel",
                rank=self._rank,
                only_live=self.classes.only_live,
                only_candidate=self.classes.only_candidate,
                outcomes=Counter(self._outcomes),
                top1=self._top1,
                top_k=self._top_k,
                live_confidence=live,
                candidate_confidence=candidate,
                absolute_confidence=absolute,
                total_variation=variation,
                buckets=tuple(self._buckets),
                changes=Counter(self._changes),
                differences=self._differences,
            )

    def _count_change(self, live: str, candidate: str) -> None:
        known = (live, candidate) in self._changes or len(self._changes) < MOST_CHANGES
        self._changes[(live, candidate) if known else (OTHER_LABELS, OTHER_LABELS)] += 1

    def _predicted(self, predicted: NDArray[np.bool_]) -> str:
        names = [self.classes.labels[index] for index in np.flatnonzero(predicted)]
        return " + ".join(names)[:_MAX_TEXT] or _NO_LABEL

    def _answer(self, probabilities: NDArray[np.float64]) -> Answer:
        order = (-probabilities).argsort(kind="stable")[:_SHOWN_CLASSES].tolist()
        return tuple((self.classes.labels[index], float(probabilities[index])) for index in order)
