"""The model card: an artifact, explained to a person.

After Mitchell et al., "Model Cards for Model Reporting", 2019.
"""

from collections.abc import Sequence
from pathlib import PurePosixPath

from convd.artifact.evidence import (
    Accuracy,
    Agreement,
    CalibrationReport,
    QuantizationReport,
)
from convd.artifact.manifest import Fact, Manifest
from convd.artifact.preprocessing import Preprocessing
from convd.artifact.scaling import describe_color
from convd.export.graph.network_output import describe_output
from convd.export.report.learned import CardPicture

MODEL_CARD_FILE = "MODEL_CARD.md"
RELIABILITY_PLOT = PurePosixPath("plots/reliability.png")
CONFUSION_PLOT = PurePosixPath("plots/confusion.png")

_MAX_LABELS = 100


def model_card(
    name: str,
    manifest: Manifest,
    plots: Sequence[PurePosixPath] = (),
    learned: Sequence[CardPicture] = (),
) -> str:
    """Write the card as Markdown.

    Args:
        name: The model's name.
        manifest: What its artifact promises.
        plots: Pictures to show, relative to the artifact.
        learned: Pictures of what the network has learned.
    """
    sections = [
        _facts(name, manifest),
        _quality(manifest, plots),
        _verification(manifest),
        _facts_taken(manifest.provenance.facts),
        _labels(manifest.labels),
    ]
    if learned:
        sections.append(["## What it has learned", *_learned(learned)])
    if manifest.provenance.training:
        rows = [f"- {key}: {value}" for key, value in manifest.provenance.training.items()]
        sections.append(["## Training", "", *rows])
    tools = ", ".join(f"{tool} {version}" for tool, version in manifest.provenance.tools.items())
    sections.append(["## Made with", "", tools or "unknown"])
    return "\n\n".join("\n".join(lines) for lines in sections) + "\n"


def describe_preprocessing(recipe: Preprocessing) -> str:
    """A recipe in words, in the order of its steps."""
    crop = recipe.center_crop
    steps = [
        "upright by EXIF" if recipe.apply_exif_orientation else "",
        "ICC profile to sRGB" if recipe.apply_icc_profile else "",
        f"alpha on {describe_color(recipe.background)}" if recipe.background else "",
        "grayscale" if recipe.grayscale else "",
        "inverted" if recipe.invert else "",
        f"middle {recipe.crop_share:g} of each side" if recipe.crop_share else "",
        f"{recipe.resize.describe()} ({recipe.interpolation})",
        f"centre {crop.height} x {crop.width}" if crop else "",
        recipe.channel_order,
    ]
    return ", ".join(step for step in steps if step)


def describe_accuracy(accuracy: Accuracy) -> str:
    """How good a network is, in words."""
    if accuracy.mean_average_precision is None:
        low, high = accuracy.interval
        return (
            f"top-1 accuracy {accuracy.top1:.2%}: {accuracy.right} of {accuracy.examples} pictures "
            f"(95 % interval {low:.1%} to {high:.1%})"
        )
    return (
        f"mean average precision {accuracy.mean_average_precision:.4f}, the most probable label is "
        f"true of {accuracy.top1:.2%}, on {accuracy.examples} pictures"
    )


def _facts(name: str, manifest: Manifest) -> list[str]:
    provenance = manifest.provenance
    height, width, channels = manifest.preprocessing.output_shape
    normalization = manifest.normalization
    rows = {
        "Architecture": provenance.architecture or "unknown",
        "Parameters": f"{provenance.parameters:,}" if provenance.parameters else "unknown",
        "Source": provenance.source,
        "Task": (
            "independent labels, each with a probability of its own"
            if manifest.task == "multilabel"
            else "classes that exclude each other"
        ),
        "Labels": str(len(manifest.labels)),
        "Outputs of the network": describe_output(manifest.network_output),
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
        text = describe_accuracy(accuracy)
        lines.append(f"{text[0].upper()}{text[1:]}: {accuracy.data}.")
    if manifest.quantization is not None:
        lines += ["", _quantization(manifest.precision, manifest.quantization)]
    if manifest.calibration is not None:
        lines += ["", *_calibration(manifest.calibration, manifest)]
    for plot in plots:
        lines += ["", f"![{plot.stem}]({plot})"]
    return lines


def _quantization(precision: str, report: QuantizationReport) -> str:
    text = f"Made {precision}"
    if report.data is not None:
        text += f"; ranges measured on {report.examples} pictures of {report.data}"
    if report.range_method is not None:
        text += f" and chosen by {report.range_method}{_alternatives(report)}"
    if report.top1_before is not None and report.top1_after is not None:
        text += f"; accuracy {report.top1_before:.2%} before, {report.top1_after:.2%} after"
    return text + f" (a drop of {report.max_accuracy_drop:.2%} is allowed)."


def _alternatives(report: QuantizationReport) -> str:
    noise = ", ".join(f"{method} {db:.1f}" for method, db in report.signal_to_noise_db.items())
    return f" (signal to noise of the logits in dB: {noise})"


def _calibration(report: CalibrationReport, manifest: Manifest) -> list[str]:
    before, after = report.before, report.after
    whole = " in every label" if manifest.task == "multilabel" else ""
    return [
        f"Calibrated with a temperature of {manifest.temperature:.4g}, fitted on {report.examples} "
        f"pictures: {report.data}. {report.top1:.2%} of them are predicted rightly{whole}, with "
        "and without it.",
        "",
        "| | before | after |",
        "| --- | --- | --- |",
        f"| negative log-likelihood | {before.negative_log_likelihood:.4f} | "
        f"{after.negative_log_likelihood:.4f} |",
        f"| expected calibration error | {before.expected_calibration_error:.4f} | "
        f"{after.expected_calibration_error:.4f} |",
    ]


def _verification(manifest: Manifest) -> list[str]:
    first = manifest.parity[0]
    lines = [
        "## How it was verified",
        "",
        f"Against the network's own answers in {first.reference}, on {first.images} random, "
        "constant, real and mixed pictures in batches of "
        f"{', '.join(map(str, first.batch_sizes))}. The network answered each picture alone, so "
        "neither the company in a batch nor the place in it changes an answer.",
        "",
        *_looks(manifest.probability_change),
        *_agreement(manifest.agreement),
        "| provider | computes in | largest difference of a probability | of a logit | same top-1 "
        "| fit to serve |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    return lines + [
        f"| {one.provider} | {one.precision} | {one.max_probability_difference:.1e} | "
        f"{one.max_logit_difference:.1e} | {one.top1_agreement:.1%} | "
        f"{'yes' if one.within_limit else 'no'} |"
        for one in manifest.parity
    ]


def _looks(change: float | None) -> list[str]:
    if change is None:
        return []
    return [
        "Between black, white, noise and real pictures a probability changes by up to "
        f"{change:.2g}.",
        "",
    ]


def _agreement(agreement: Agreement | None) -> list[str]:
    if agreement is None:
        return [
            "The recipe is unproved: no evaluation data were given, so nothing shows that labels, "
            "size, mean and std are those of training.",
            "",
        ]
    ties = agreement.differing_by_rounding
    but = f", but for {ties} where two answers tie" if ties else ""
    return [
        f"On the {agreement.examples} evaluation pictures, from file to answer, each prediction is "
        f"the network's own{but}.",
        "",
    ]


def _learned(pictures: Sequence[CardPicture]) -> list[str]:
    lines = []
    for file, caption in pictures:
        lines += ["", caption, "", f"![{file.stem}]({file})"]
    return lines


def _facts_taken(facts: Sequence[Fact]) -> list[str]:
    rows = [f"| {fact.subject} | {fact.value} | {fact.origin} |" for fact in facts]
    return [
        "## What was taken for granted",
        "",
        "| | | from |",
        "| --- | --- | --- |",
        *(row.replace("\n", " ") for row in rows),
    ]


def _labels(labels: tuple[str, ...]) -> list[str]:
    shown = ", ".join(f"{index}: {label}" for index, label in enumerate(labels[:_MAX_LABELS]))
    more = f", and {len(labels) - _MAX_LABELS} more" if len(labels) > _MAX_LABELS else ""
    return ["## Labels", "", shown + more]
