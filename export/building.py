"""Builds an artifact: converts a network, proves it, and writes down the evidence."""

import importlib.metadata
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

import numpy as np
import onnxruntime as ort
import torch

from convd import __version__
from convd.artifact.bundle import MODEL_FILE, Artifact, checksums, write_manifest
from convd.artifact.evidence import ParityReport
from convd.artifact.manifest import Manifest
from convd.artifact.precision import Precision
from convd.artifact.preprocessing import ImageArray, prepare_image
from convd.export.calibration import Calibration, calibrate
from convd.export.conversion import Conversion, convert
from convd.export.evaluation import Evaluation, Run, evaluate
from convd.export.golden_cases import write_golden_cases
from convd.export.graph import ServingGraph
from convd.export.model_card import CONFUSION_PLOT, MODEL_CARD_FILE, RELIABILITY_PLOT, model_card
from convd.export.network_checks import check_network
from convd.export.onnx_wrapping import wrap_onnx
from convd.export.options import ExportOptions
from convd.export.parity import run_reference
from convd.export.plots import plot_confusion, plot_reliability
from convd.export.progress import ExportProgress
from convd.export.reduced_precision import check_accuracy_drop, reduce_precision
from convd.export.sample_pictures import SamplePictures
from convd.export.serving_model import check_serving_model
from convd.export.source import TrainedNetwork
from convd.export.sources.evaluation_data import NamedDataset
from convd.export.sources.onnx_file import OnnxNetwork
from convd.export.verification import verify
from convd.models.data.prepared import PreparedDataset
from convd.runtime.cpu import CPU
from convd.runtime.providers import golden_tolerances, installed_providers
from convd.runtime.selftest import run_self_test
from convd.runtime.session import Session

_BATCH_SIZE = 32
_PARITY_PICTURES = 64
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
    graph = ServingGraph(source.network, source.normalization)
    check_network(graph, source.preprocessing, len(source.labels))
    calibration = _calibrate(graph, source, options, progress)
    if calibration is not None:
        graph = ServingGraph(source.network, source.normalization, calibration.temperature)
    with progress.stage("converting to ONNX"):
        conversion = convert_to_serving(graph.eval(), source)
    model = reduce_precision(conversion.model, source.preprocessing, options, progress)
    check_serving_model(model, source.preprocessing, len(source.labels))
    pictures = _prepare_some(source)
    parity = verify(graph, conversion, model, pictures, options.precision, progress)

    model_bytes = model.SerializeToString()
    (folder / MODEL_FILE).write_bytes(model_bytes)
    session = Session(model_bytes, CPU)
    evaluation = _evaluate(session.run, source, "measuring accuracy", progress)
    quantization = None
    if evaluation is not None and options.precision != "float32":
        float32 = Session(conversion.model.SerializeToString(), CPU)
        before = _evaluate(float32.run, source, "measuring accuracy in float32", progress)
        assert before is not None  # noqa: S101
        quantization = check_accuracy_drop(before, evaluation, options)
    write_golden_cases(folder, source, _expected(graph, session, options))
    plots = _draw(folder, source.labels, evaluation, calibration)
    manifest = Manifest(
        created_at=datetime.now(UTC),
        labels=source.labels,
        preprocessing=source.preprocessing,
        normalization=source.normalization,
        precision=options.precision,
        temperature=graph.temperature,
        opset=next(one.version for one in model.opset_import if one.domain in ("", "ai.onnx")),
        provenance=source.provenance.model_copy(update={"tools": _tool_versions()}),
        accuracy=evaluation.accuracy() if evaluation else None,
        parity=parity,
        calibration=calibration.report if calibration else None,
        quantization=quantization,
        baseline=evaluation.baseline() if evaluation else None,
        golden_tolerances=_promised_tolerances(options.precision, parity),
        files={},
    )
    card = model_card(name, manifest, plots)
    (folder / MODEL_CARD_FILE).write_text(card, encoding="utf-8")
    manifest = manifest.model_copy(update={"files": checksums(folder)})
    write_manifest(folder, manifest, signing_key=options.signing_key)
    with progress.stage("running the golden cases"):
        _prove(folder, parity)
    return manifest


def convert_to_serving(graph: ServingGraph, source: TrainedNetwork) -> Conversion:
    """Convert a network, or wrap one that is ONNX already, and check what serving relies on.

    Raises:
        ConversionError: The network cannot be served.
    """
    if isinstance(graph.network, OnnxNetwork):
        model = wrap_onnx(graph, source.preprocessing, len(source.labels))
        conversion = Conversion(model, None)
    else:
        conversion = convert(graph, source.preprocessing)
    check_serving_model(conversion.model, source.preprocessing, len(source.labels))
    return conversion


def _calibrate(
    graph: ServingGraph, source: TrainedNetwork, options: ExportOptions, progress: ExportProgress
) -> Calibration | None:
    data = options.calibration_data
    if data is None:
        return None
    answers = _run_over(
        lambda images: run_reference(graph, images), source, data, "calibrating", progress
    )
    return calibrate(answers.logits, answers.targets, data.name)


def _evaluate(
    run: Run, source: TrainedNetwork, description: str, progress: ExportProgress
) -> Evaluation | None:
    if isinstance(source.examples, SamplePictures):
        return None
    data = NamedDataset(source.examples, source.examples_name)
    return _run_over(run, source, data, description, progress)


def _run_over(
    run: Run,
    source: TrainedNetwork,
    data: NamedDataset,
    description: str,
    progress: ExportProgress,
) -> Evaluation:
    # Each picture is needed once; keeping them all would take gigabytes.
    prepared = PreparedDataset(data.pictures, source.preprocessing, max_bytes_in_memory=0)
    with progress.stage(description, len(prepared)) as advance:
        return evaluate(run, prepared.in_order(_BATCH_SIZE), data.name, advance)


def _prepare_some(source: TrainedNetwork) -> list[ImageArray]:
    """Prepared pictures from the whole data set, since many are sorted by class."""
    count = min(_PARITY_PICTURES, len(source.examples))
    indices = np.linspace(0, len(source.examples) - 1, count).round().astype(int)
    return [
        prepare_image(source.examples.picture(int(index)), source.preprocessing)
        for index in indices
    ]


def _expected(graph: ServingGraph, session: Session, options: ExportOptions) -> Run:
    """What golden answers are taken from: the source, or what was made of it on purpose."""
    if options.precision == "int8":
        return session.run
    return lambda images: run_reference(graph, images)


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
            run_self_test(artifact, Session(model, provider))


def _draw(
    folder: Path,
    labels: tuple[str, ...],
    evaluation: Evaluation | None,
    calibration: Calibration | None,
) -> list[PurePosixPath]:
    plots = []
    if calibration is not None:
        curves = {"before": calibration.before, "after": calibration.after}
        plot_reliability(folder / RELIABILITY_PLOT, curves, calibration.targets)
        plots.append(RELIABILITY_PLOT)
    elif evaluation is not None:
        curves = {"as published": evaluation.probabilities}
        plot_reliability(folder / RELIABILITY_PLOT, curves, evaluation.targets)
        plots.append(RELIABILITY_PLOT)
    if evaluation is not None:
        plot_confusion(folder / CONFUSION_PLOT, evaluation.confusion(), labels)
        plots.append(CONFUSION_PLOT)
    return plots


def _tool_versions() -> dict[str, str]:
    versions = {tool: importlib.metadata.version(tool) for tool in _TOOLS}
    # Builds of these come under several names.
    return versions | {
        "convd": __version__,
        "torch": torch.__version__,
        "onnxruntime": ort.__version__,
    }
