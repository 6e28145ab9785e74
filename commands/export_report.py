"""What `convd export` tells of a network: what it would do, took for granted, and measured."""

from collections.abc import Sequence

from rich.console import Console

from convd.artifact.evidence import Baseline
from convd.artifact.manifest import Fact, Manifest
from convd.export.graph.network_output import describe_output
from convd.export.publication import Published
from convd.export.report.model_card import describe_accuracy

_NOTABLE_GAP = 0.03
"""A difference between confidence and accuracy that is more than the bins' own width."""


def as_json(name: str, published: Published) -> dict[str, object]:
    """What was published, with its manifest."""
    manifest = published.manifest.model_dump(mode="json")
    path = published.place
    return {"model": name, "version": published.version, "path": path, "manifest": manifest}


def show_plan(console: Console, rows: dict[str, str]) -> None:
    """Show what an export would do."""
    for subject, what in rows.items():
        console.print(f"{subject:16} {what}")


def show_facts(console: Console, facts: Sequence[Fact]) -> None:
    """Each thing that is taken for granted, and where it was taken from."""
    for fact in facts:
        console.print(f"{fact.subject:16} {fact.value}  [{fact.origin}]")


def show_evidence(console: Console, manifest: Manifest) -> None:
    """Show what was measured, and what was not."""
    console.print(f"outputs: {describe_output(manifest.network_output)}")
    accuracy, agreement = manifest.accuracy, manifest.agreement
    if accuracy is None or agreement is None:
        console.print(
            "the recipe is unproved: without --data SPEC nothing shows that labels, size, mean and "
            "std are those of training"
        )
    else:
        ties = agreement.differing_by_rounding
        console.print(f"{describe_accuracy(accuracy)} ({accuracy.data})")
        console.print(
            f"the network itself gives the same predictions on all {agreement.examples} pictures"
            + (f", but for {ties} ties" if ties else "")
        )
    baseline = manifest.baseline
    if accuracy is not None and baseline is not None and manifest.calibration is None:
        gap = _confidence(baseline) - accuracy.top1
        if manifest.task == "multiclass" and abs(gap) >= _NOTABLE_GAP:
            console.print(
                f"its probabilities are about {abs(gap):.0%} too {'high' if gap > 0 else 'low'} on "
                "average: --calibrate SPEC fits a temperature on held-out pictures"
            )
    quantization = manifest.quantization
    if quantization is not None and quantization.top1_before is not None and accuracy is not None:
        right = round(quantization.top1_before * accuracy.examples)
        console.print(
            f"accuracy in float32 {quantization.top1_before:.2%}: {right} of "
            f"{accuracy.examples} pictures"
        )
    calibration = manifest.calibration
    if calibration is not None:
        before, after = calibration.before, calibration.after
        console.print(
            f"temperature {manifest.temperature:.4g}: expected calibration error "
            f"{before.expected_calibration_error:.4f} -> {after.expected_calibration_error:.4f}, "
            f"negative log-likelihood {before.negative_log_likelihood:.4f} -> "
            f"{after.negative_log_likelihood:.4f}"
        )
    for parity in manifest.parity:
        unfit = "" if parity.within_limit else "; not near enough, so it will not serve this model"
        console.print(
            f"{parity.provider} ({parity.precision}) against {parity.reference}: probabilities "
            f"differ by at most {parity.max_probability_difference:.1e}, top-1 agrees on "
            f"{parity.top1_agreement:.1%} of {parity.images} pictures in batches of "
            f"{', '.join(map(str, parity.batch_sizes))}{unfit}"
        )


def _confidence(baseline: Baseline) -> float:
    """Mean probability of the predicted classes, as near as the bins tell."""
    bins = len(baseline.confidence_shares)
    return sum(
        share * (place + 0.5) / bins for place, share in enumerate(baseline.confidence_shares)
    )
