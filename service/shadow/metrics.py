"""Metrics of the comparisons, read when metrics are collected."""

from collections.abc import Iterable

import numpy as np
from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from convd.service.shadow.report import TOTAL_VARIATION_BOUNDS, ComparisonReport, Outcome
from convd.service.shadow.shadowing import Shadowing

_VERSIONS = ["model", "version", "candidate"]


class ShadowCollector(Collector):
    """Exports what the comparisons have found.

    Args:
        registry: Collects the metrics.
        shadowing: Runs the comparisons.
    """

    def __init__(self, registry: CollectorRegistry, shadowing: Shadowing) -> None:
        self._shadowing = shadowing
        registry.register(self)

    def describe(self) -> Iterable[Metric]:
        """The families without their samples."""
        return _Families().all()

    def collect(self) -> Iterable[Metric]:
        """The families with their samples."""
        families = _Families()
        for report in self._shadowing.reports():
            families.add(report)
        return families.all()


class _Families:
    def __init__(self) -> None:
        self.images = CounterMetricFamily(
            "convd_shadow_images",
            "Answered images that were to be compared with a candidate's answer, by outcome: "
            "compared, dropped (there was no idle time before the queue was full), unfit (the "
            "candidate takes another input), unavailable or failed (the candidate).",
            labels=[*_VERSIONS, "outcome"],
        )
        self.agreements = CounterMetricFamily(
            "convd_shadow_agreements",
            "Compared images on which both versions agree: top1 (the same prediction) or topk (the "
            "answer is among the candidate's first five).",
            labels=[*_VERSIONS, "of"],
        )
        self.confidence = CounterMetricFamily(
            "convd_shadow_confidence_ratio",
            "Sum of the confidences of the compared images, of the live version and of its "
            "candidate.",
            labels=[*_VERSIONS, "answer"],
        )
        self.total_variation = HistogramMetricFamily(
            "convd_shadow_total_variation_ratio",
            "How far both answers to an image are apart: half the sum of the differences of all "
            "probabilities; of independent labels, the largest difference.",
            labels=_VERSIONS,
        )
        self.waiting = GaugeMetricFamily(
            "convd_shadow_waiting_images",
            "Images that wait for idle time to be compared.",
            labels=_VERSIONS,
        )

    def all(self) -> list[Metric]:
        return list(vars(self).values())

    def add(self, report: ComparisonReport) -> None:
        versions = (report.model, str(report.live), str(report.candidate))
        for outcome in Outcome:
            self.images.add_metric([*versions, outcome], report.outcomes[outcome])
        self.waiting.add_metric(versions, report.waiting)
        self.agreements.add_metric([*versions, "top1"], report.top1)
        self.agreements.add_metric([*versions, "topk"], report.top_k)
        self.confidence.add_metric([*versions, "live"], report.live_confidence)
        self.confidence.add_metric([*versions, "candidate"], report.candidate_confidence)
        names = [*map(floatToGoString, TOTAL_VARIATION_BOUNDS), "+Inf"]
        cumulative = np.cumsum(report.buckets).tolist()
        buckets = list(zip(names, cumulative, strict=True))
        self.total_variation.add_metric(versions, buckets, report.total_variation)
