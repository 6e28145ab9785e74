"""What a manifest must agree with itself about."""

from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from convd.artifact.evidence import Baseline, ParityReport
from convd.artifact.manifest import Manifest, Provenance
from convd.artifact.preprocessing import Preprocessing, ResizeTo


def manifest(**changes: Any) -> Manifest:
    values: dict[str, Any] = {
        "created_at": datetime.now(UTC),
        "labels": ("even", "loop"),
        "preprocessing": Preprocessing(resize=ResizeTo(height=8, width=8)),
        "opset": 18,
        "provenance": Provenance(source="a test"),
        "parity": (
            ParityReport(
                reference="PyTorch",
                provider="CPUExecutionProvider",
                precision="float32",
                batch_sizes=(1,),
                images=1,
                max_logit_difference=0,
                max_probability_difference=0,
                probability_limit=1e-5,
                top1_agreement=1,
            ),
        ),
        "golden_tolerances": {},
        "files": {},
    }
    return Manifest(**values | changes)


def baseline(*shares: float) -> Baseline:
    return Baseline(
        data="digits", examples=10, predicted_shares=shares, confidence_shares=(0.5, 0.5)
    )


def test_a_manifest_without_a_task_is_of_classes_that_exclude_each_other() -> None:
    assert manifest().task == "multiclass"


def test_shares_of_independent_labels_need_not_sum_to_1() -> None:
    shares = baseline(0.9, 0.8)
    assert manifest(task="multilabel", baseline=shares).baseline == shares
    with pytest.raises(ValidationError, match="must sum to 1"):
        manifest(baseline=shares)
    with pytest.raises(ValidationError, match="between 0 and 1"):
        baseline(1.2, -0.2)
