"""The model card: an artifact, explained to a person.

After Mitchell et al., "Model Cards for Model Reporting", 2019.
"""

from artifact.evidence import ParityReport
from artifact.manifest import Manifest


def model_card(name: str, manifest: Manifest) -> str:
    """Write the card as Markdown."""
    provenance = manifest.provenance
    recipe = manifest.preprocessing
    height, width, channels = recipe.output_shape
    rows = {
        "Architecture": provenance.architecture or "unknown",
        "Parameters": f"{provenance.parameters:,}" if provenance.parameters else "unknown",
        "Source": provenance.source,
        "Classes": str(len(manifest.labels)),
        "Input": f"uint8 [batch, {height}, {width}, {channels}], {recipe.channel_order}",
        "Precision": manifest.precision,
        "Created": f"{manifest.created_at:%Y-%m-%d %H:%M} UTC",
    }
    lines = [f"# {name}", "", "| | |", "| --- | --- |"]
    lines += [f"| {key} | {value} |" for key, value in rows.items()]
    lines += ["", "## How good it is", ""]
    accuracy = manifest.accuracy
    if accuracy is None:
        lines.append("Accuracy was not measured.")
    else:
        lines.append(
            f"Top-1 accuracy {accuracy.top1:.2%} on {accuracy.examples} examples: {accuracy.data}."
        )
    lines += ["", "## How it was verified", ""]
    lines += [_verified(report) for report in manifest.parity]
    lines += [
        "",
        "## Labels",
        "",
        ", ".join(f"{index}: {label}" for index, label in enumerate(manifest.labels)),
        "",
    ]
    if provenance.training:
        lines += ["## Training", ""]
        lines += [f"- {key}: {value}" for key, value in provenance.training.items()]
        lines.append("")
    return "\n".join(lines)


def _verified(parity: ParityReport) -> str:
    return (
        f"ONNX Runtime ({parity.provider}, {parity.precision}) against {parity.reference} on "
        f"{parity.images} random, constant and real pictures in batches of "
        f"{', '.join(map(str, parity.batch_sizes))}: probabilities differ by at most "
        f"{parity.max_probability_difference:.1e}, logits by at most "
        f"{parity.max_logit_difference:.1e}; the most probable class agrees on "
        f"{parity.top1_agreement:.1%}."
    )
