"""Manifests and requests that do not exist, and samples of servers that do."""

from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray
from prometheus_client.parser import text_string_to_metric_families

from convd.artifact.evidence import Baseline, ParityReport
from convd.artifact.manifest import Manifest, Provenance, Task
from convd.artifact.preprocessing import Preprocessing, ResizeTo
from convd.service.metrics import RequestRecord
from tests.support import Client


def manifest_with(
    labels: tuple[str, ...], baseline: Baseline | None = None, task: Task = "multiclass"
) -> Manifest:
    """A manifest of this task, with these labels and this baseline."""
    parity = ParityReport(
        reference="PyTorch",
        provider="CPUExecutionProvider",
        precision="float32",
        batch_sizes=(1,),
        images=1,
        max_logit_difference=0,
        max_probability_difference=0,
        probability_limit=1e-5,
        top1_agreement=1,
    )
    return Manifest(
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        task=task,
        labels=labels,
        preprocessing=Preprocessing(resize=ResizeTo(height=8, width=8)),
        opset=20,
        provenance=Provenance(source="none"),
        parity=(parity,),
        baseline=baseline,
        golden_tolerances={},
        files={},
    )


def record_of(probabilities: NDArray[np.float32]) -> RequestRecord:
    """The record of a request with this answer, which ran in one batch."""
    record = RequestRecord()
    record.submitted_at = record.answered_at = record.ended_at = record.started_at
    record.queue_seconds, record.inference_seconds = 0.25, 0.5
    record.batch_sizes = (len(probabilities),)
    record.probabilities = probabilities
    return record


def scrape(client: Client, name: str, **labels: str) -> list[float]:
    """The values of all samples of one name that have these labels."""
    families = text_string_to_metric_families(client.get("/metrics")[1])
    return [
        sample.value
        for family in families
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    ]
