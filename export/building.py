"""Builds an artifact: converts a network, proves it, and writes down the evidence."""

import importlib.metadata
from datetime import UTC, datetime
from pathlib import Path

import onnx
import onnxruntime as ort
import torch

import convd
from convd.artifact.bundle import MODEL_FILE, Artifact, checksums, write_manifest
from convd.artifact.class_activation import write_class_weights
from convd.artifact.evidence import Agreement, FeatureOutputs, ParityReport, QuantizationReport
from convd.artifact.graph_contract import OutputArrays
from convd.artifact.manifest import Manifest
from convd.artifact.precision import Precision
from convd.export.examination import Examination, examine, examine_head, serving_model
from convd.export.graph.serving_model import check_serving_model
from convd.export.options import ExportOptions
from convd.export.progress import ExportProgress
from convd.export.proof.agreement import check_agreement, reference_outputs, served_answers
from convd.export.proof.divergence import Conversion
from convd.export.proof.end_to_end import check_golden, check_recipe
from convd.export.proof.given import check_flags, check_recorded_accuracy
from convd.export.proof.parity import ExpectedAnswers, extras_of, normalised, served_output
from convd.export.proof.reference import probabilities_of
from convd.export.proof.sample_pictures import SamplePictures
from convd.export.proof.verification import verify
from convd.export.range_choice import Quantized
from convd.export.reduced_precision import check_accuracy_drop, reduce_precision
from convd.export.report.calibration import Calibration, calibrate
from convd.export.report.evaluation import Evaluation
from convd.export.report.golden_cases import GoldenPictures, choose_golden
from convd.export.report.learned import draw_learned
from convd.export.report.model_card import MODEL_CARD_FILE, model_card
from convd.export.report.plots import draw
from convd.export.source import TrainedNetwork
from convd.export.sources.labelled_pictures import LabelledPictures
from convd.runtime.cpu import CPU
from convd.runtime.providers import golden_tolerances, installed_providers
from convd.runtime.selftest import run_self_test
from convd.runtime.session import Session

_TOOLS = ("onnx", "onnxscript")


def build_artifact(
    source: TrainedNetwork,
    folder: Path,
    name: str,
    options: ExportOptions,
    progress: ExportProgress,
) -> Manifest:
    """Write a whole, proved artifact into an empty folder.

    Args:
        source: The network.
        folder: The empty folder.
        name: The model's name, for the card.
        options: How the network is published.
        progress: Told of each stage.

    Raises:
        ExportError: The network cannot be converted, or gives other answers once it is.
    """
    options.check(source)
    found = examine(source, progress)
    options.check_task(source, found.reading.task)
    calibration = _calibrate(source, found, options, progress)
    temperature = calibration.temperature if calibration else 1.0
    head, features = examine_head(source, found) if options.features else (None, None)
    float32 = serving_model(source, found, temperature, head)
    model, quantized = reduce_precision(float32, source.preprocessing, options, progress)
    check_serving_model(model, source.preprocessing, len(source.labels))
    expected = ExpectedAnswers(
        found.pool, found.outputs, found.reading.output, temperature, found.reference.name, features
    )
    conversion = Conversion(float32, found.graph, source.normalization)
    parity = verify(expected, conversion, model, options.precision, progress)

    (folder / MODEL_FILE).write_bytes(model.SerializeToString())
    if head is not None and head.maps is not None:
        write_class_weights(folder, head.weights)
    session = Session((folder / MODEL_FILE).read_bytes(), CPU)
    evaluation = _evaluate(session, source, "measuring accuracy", progress)
    quantization, agreement = _compare_predictions(
        source, found, float32, quantized, evaluation, options, progress
    )
    golden, answers = _write_golden_cases(
        folder, source, found, session, evaluation, options.precision
    )
    plots = draw(folder, source.labels, evaluation, calibration)
    learned = draw_learned(folder, source, golden.images, answers, head, evaluation)
    manifest = Manifest(
        created_at=datetime.now(UTC),
        task=found.reading.task,
        network_output=found.reading.output,
        labels=source.labels,
        preprocessing=source.preprocessing,
        normalization=source.normalization,
        precision=options.precision,
        temperature=temperature,
        opset=next(one.version for one in model.opset_import if one.domain in ("", "ai.onnx")),
        provenance=source.provenance.model_copy(
            update={"tools": _tool_versions(), "facts": source.facts}
        ),
        accuracy=evaluation.accuracy() if evaluation else None,
        agreement=agreement,
        probability_change=min(found.look.change, 1.0),
        parity=parity,
        calibration=calibration.report if calibration else None,
        quantization=quantization,
        features=FeatureOutputs(length=head.length, map_shape=head.map_shape) if head else None,
        baseline=evaluation.baseline() if evaluation else None,
        golden_tolerances=_promised_tolerances(options.precision, parity),
        files={},
    )
    check_flags(source, manifest)
    card = model_card(name, manifest, plots, learned)
    (folder / MODEL_CARD_FILE).write_text(card, encoding="utf-8")
    manifest = manifest.model_copy(update={"files": checksums(folder)})
    write_manifest(folder, manifest)
    with progress.stage("running the golden cases"):
        _prove(folder, parity)
    return manifest


def _calibrate(
    source: TrainedNetwork, found: Examination, options: ExportOptions, progress: ExportProgress
) -> Calibration | None:
    data = options.calibration_data
    if data is None:
        return None
    session = Session(serving_model(source, found).SerializeToString(), CPU)
    return calibrate(_answers(session, source, data, "calibrating", progress))


def _evaluate(
    session: Session,
    source: TrainedNetwork,
    description: str,
    progress: ExportProgress,
) -> Evaluation | None:
    if isinstance(source.examples, SamplePictures):
        return None
    return _answers(session, source, source.examples, description, progress)


def _answers(
    session: Session,
    source: TrainedNetwork,
    data: LabelledPictures,
    description: str,
    progress: ExportProgress,
) -> Evaluation:
    with progress.stage(description, len(data)) as advance:
        answers = served_answers(session, data, source.preprocessing, advance)
    return Evaluation(answers.probabilities, answers.logits, data.truth, data.task, data.name)


def _compare_predictions(
    source: TrainedNetwork,
    found: Examination,
    float32: onnx.ModelProto,
    quantized: Quantized | None,
    evaluation: Evaluation | None,
    options: ExportOptions,
    progress: ExportProgress,
) -> tuple[QuantizationReport | None, Agreement | None]:
    """Compare what is served in float32 with the user's network, and the smaller one with that."""
    if evaluation is None or isinstance(source.examples, SamplePictures):
        return None, None
    exact, quantization = evaluation, None
    if options.precision != "float32":
        session = Session(float32.SerializeToString(), CPU)
        exact = _answers(session, source, source.examples, "measuring float32", progress)
        quantization = check_accuracy_drop(exact, evaluation, options, quantized)
    check_recorded_accuracy(source.recorded_accuracy, exact.accuracy())
    with progress.stage(f"asking {found.reference.name}", len(source.examples)) as advance:
        outputs = reference_outputs(found.reference, source.examples, source.preprocessing, advance)
    agreement = check_agreement(
        probabilities_of(served_output(found.reading.task), exact.logits),
        probabilities_of(found.reading.output, outputs),
        source.examples,
        CPU.tolerances["float32"].parity or 0.0,
    )
    return quantization, agreement


def _write_golden_cases(
    folder: Path,
    source: TrainedNetwork,
    found: Examination,
    session: Session,
    evaluation: Evaluation | None,
    precision: Precision,
) -> tuple[GoldenPictures, OutputArrays]:
    predicted = evaluation.predicted if evaluation else None
    indices = choose_golden(predicted, len(source.examples))
    golden = GoldenPictures(folder, source.examples, indices, source.preprocessing)
    check_recipe(source, golden.decoded, golden.images)
    answers = session.run(golden.images, extras_of(session))
    limit = CPU.tolerances[precision].parity
    if limit is not None:
        check_golden(
            probabilities_of(served_output(found.reading.task), answers.logits),
            normalised(
                probabilities_of(found.reading.output, golden.outputs_of(found.reference, source)),
                found.reading.task,
            ),
            limit,
            found.reference.name,
        )
    golden.write_cases(answers.probabilities, answers.features)
    return golden, answers


def _promised_tolerances(
    precision: Precision, parity: tuple[ParityReport, ...]
) -> dict[str, dict[Precision, float]]:
    """Promise nothing for a provider that was tried and is not near enough."""
    unfit = {(one.provider, one.precision) for one in parity if not one.within_limit}
    return {
        provider: {
            computed: tolerance
            for computed, tolerance in tolerances.items()
            if (provider, computed) not in unfit
        }
        for provider, tolerances in golden_tolerances(precision).items()
    }


def _prove(folder: Path, parity: tuple[ParityReport, ...]) -> None:
    """Run the golden cases as a server will, on each provider that is fit to serve."""
    artifact = Artifact.open(folder)
    artifact.check_all_files()
    model = artifact.read(MODEL_FILE)
    fit = {(one.provider, one.precision) for one in parity if one.within_limit}
    for provider in installed_providers():
        computed = provider.computes_in(artifact.manifest.precision)
        if (provider.name, computed) in fit:
            session = Session(model, provider, precision=artifact.manifest.precision)
            run_self_test(artifact, session)


def _tool_versions() -> dict[str, str]:
    versions = {tool: importlib.metadata.version(tool) for tool in _TOOLS}
    # Builds of these come under several names.
    return (
        {"convd": convd.__version__, "torch": torch.__version__}
        | versions
        | {"onnxruntime": ort.__version__}
    )
