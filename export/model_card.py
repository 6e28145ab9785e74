"""The model card: an artifact, explained to a person.

After Mitchell et al., "Model Cards for Model Reporting", 2019.
"""

from collections.abc import Sequence
from pathlib import PurePosixPath

from convd.artifact.evidence import CalibrationReport, ParityReport, QuantizationReport
from convd.artifact.manifest import Manifest
from convd.artifact.preprocessing import Preprocessing, ResizeShorterSide

MODEL_CARD_FILE = "MODEL_CARD.md"
RELIABILITY_PLOT = PurePosixPath("plots/reliability.png")
CONFUSION_PLOT = PurePosixPath("plots/confusion.png")

_MAX_LABELS = 100


def model_card(name: str, manifest: Manifest, plots: Sequence[PurePosixPath] = ()) -> str:
    """Write the card as Markdown.

    Args:
        name: The model's name.
        manifest: What its artifact promises.
        plots: Pictures to show, relative to the artifact.
    """
    sections = [
        _facts(name, manifest),
        _quality(manifest, plots),
        _verification(manifest.parity),
        _labels(manifest.labels),
    ]
    if manifest.provenance.training:
        rows = [f"- {key}: {value}" for key, value in manifest.provenance.training.items()]
        sections.append(["## Training", "", *rows])
    tools = ", ".join(f"{tool} {version}" for tool, version in manifest.provenance.tools.items())
    sections.append(["## Made with", "", tools or "unknown"])
    return "\n\n".join("\n".join(lines) for lines in sections) + "\n"


def describe_preprocessing(recipe: Preprocessing) -> str:
    """A recipe in words."""
    resize = recipe.resize
    scaled = (
        f"shorter side to {resize.size}"
        if isinstance(resize, ResizeShorterSide)
        else f"to {resize.height} x {resize.width}"
    )
    crop = recipe.center_crop
    cut = f", centre {crop.height} x {crop.width}" if crop else ""
    turned = "upright by EXIF, " if recipe.apply_exif_orientation else ""
    return f"{turned}{scaled} ({recipe.interpolation}){cut}, {recipe.channel_order}"


def _facts(name: str, manifest: Manifest) -> list[str]:
    provenance = manifest.provenance
    height, width, channels = manifest.preprocessing.output_shape
    normalization = manifest.normalization
    rows = {
        "Architecture": provenance.architecture or "unknown",
        "Parameters": f"{provenance.parameters:,}" if provenance.parameters else "unknown",
        "Source": provenance.source,
        "Classes": str(len(manifest.labels)),
        "Input": f"uint8 [batch, {height}, {width}, {channels}]",
        "Preprocessing": describe_preprocessing(manifest.preprocessing),
        "Normalisation": (
            f"mean {list(normalization.mean)}, std {list(normalization.std)} of pixels in 0..1"
            if normalization
            else "by the network itself"
        ),
        "Precision": manifest.precision,
        "Temperature": f"{manifest.temperature:.4g}",
        "Operator set": str(manifest.opset),
        "Created": f"{manifest.created_at:%Y-%m-%d %H:%M} UTC",
    }
    return [f"# {name}", "", "| | |", "| --- | --- |", *(f"| {k} | {v} |" for k, v in rows.items())]


def _quality(manifest: Manifest, plots: Sequence[PurePosixPath]) -> list[str]:
    lines = ["## How good it is", ""]
    accuracy = manifest.accuracy
    if accuracy is None:
        lines.append("Accuracy was not measured: no evaluation data were given.")
    else:
        lines.append(
            f"Top-1 accuracy {accuracy.top1:.2%} on {accuracy.examples} pictures: {accuracy.data}."
        )
    if manifest.quantization is not None:
        lines += ["", _quantization(manifest.precision, manifest.quantization)]
    if manifest.calibration is not None:
        lines += ["", *_calibration(manifest.calibration, manifest.temperature)]
    for plot in plots:
        lines += ["", f"![{plot.stem}]({plot})"]
    return lines


def _quantization(precision: str, report: QuantizationReport) -> str:
    text = f"Made {precision}"
    if report.data is not None:
        text += f"; ranges measured on {report.examples} pictures of {report.data}"
    if report.top1_before is not None and report.top1_after is not None:
        text += f"; accuracy {report.top1_before:.2%} before, {report.top1_after:.2%} after"
    return text + f" (a drop of {report.max_accuracy_drop:.2%} is allowed)."


def _calibration(report: CalibrationReport, temperature: float) -> list[str]:
    before, after = report.before, report.after
    return [
        f"Calibrated with a temperature of {temperature:.4g}, fitted on {report.examples} "
        f"pictures: {report.data}. Top-1 accuracy there is {report.top1:.2%} with and without it.",
        "",
        "| | before | after |",
        "| --- | --- | --- |",
        f"| negative log-likelihood | {before.negative_log_likelihood:.4f} | "
        f"{after.negative_log_likelihood:.4f} |",
        f"| expected calibration error | {before.expected_calibration_error:.4f} | "
        f"{after.expected_calibration_error:.4f} |",
    ]


def _verification(reports: Sequence[ParityReport]) -> list[str]:
    first = reports[0]
    lines = [
        "## How it was verified",
        "",
        f"Against {first.reference}, on {first.images} random, constant and real pictures in "
        f"batches of {', '.join(map(str, first.batch_sizes))}:",
        "",
        "| provider | computes in | largest difference of a probability | of a logit | same top-1 "
        "| fit to serve |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    return lines + [
        f"| {one.provider} | {one.precision} | {one.max_probability_difference:.1e} | "
        f"{one.max_logit_difference:.1e} | {one.top1_agreement:.1%} | "
        f"{'yes' if one.within_limit else 'no'} |"
        for one in reports
    ]


def _labels(labels: tuple[str, ...]) -> list[str]:
    shown = ", ".join(f"{index}: {label}" for index, label in enumerate(labels[:_MAX_LABELS]))
    more = f", and {len(labels) - _MAX_LABELS} more" if len(labels) > _MAX_LABELS else ""
    return ["## Labels", "", shown + more]
