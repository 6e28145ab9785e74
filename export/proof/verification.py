"""Proves what is served on every execution provider of this machine."""

import onnx

from convd.artifact.evidence import ParityReport
from convd.artifact.precision import Precision
from convd.export.errors import ParityError
from convd.export.progress import ExportProgress
from convd.export.proof.divergence import Conversion, first_divergence
from convd.export.proof.parity import ExpectedAnswers, measure_parity
from convd.runtime.cpu import CPU
from convd.runtime.errors import SessionError
from convd.runtime.provider import ExecutionProvider
from convd.runtime.providers import installed_providers
from convd.runtime.session import Session


def verify(
    expected: ExpectedAnswers,
    conversion: Conversion,
    model: onnx.ModelProto,
    precision: Precision,
    progress: ExportProgress,
) -> tuple[ParityReport, ...]:
    """Compare ONNX Runtime with the source on each provider, and refuse what differs too much.

    A provider that computes in less than the network's precision may differ: its report says that
    it is not fit to serve this network, and the artifact then promises nothing for it. Every other
    one has to agree.

    Args:
        expected: What the source answers.
        conversion: The network as it was converted, in float32.
        model: What is to be published.
        precision: The precision of what is to be published.
        progress: Told of each stage.

    Returns:
        One report for each provider that is here, the CPU among them.

    Raises:
        ParityError: A probability differs by more than the limit.
    """
    model_bytes = model.SerializeToString()
    reports = []
    for provider in installed_providers():
        try:
            session = Session(model_bytes, provider, precision=precision)
        except SessionError:
            if provider == CPU:
                raise
            continue  # what cannot load it here will be refused there, too
        total = expected.pool.total
        with progress.stage(f"comparing {provider} with {expected.source}", total) as advance:
            report = measure_parity(expected, session, precision, advance)
        reduced = report.precision != precision
        features = report.max_feature_difference
        if features is not None and precision == "float32" and not reduced:
            _check_features(report, provider, features)
        if not report.within_limit and not reduced:
            images = expected.pool.images[-2:]
            layer = first_divergence(conversion, model, images, provider, precision)
            raise ParityError(_explain(report, provider, layer))
        reports.append(report)
    return tuple(reports)


def _check_features(report: ParityReport, provider: ExecutionProvider, difference: float) -> None:
    limit = report.probability_limit
    if limit is not None and not difference <= limit:
        raise ParityError(
            f"the features of {provider} differ from those of {report.reference} by "
            f"{difference:.2g} of the largest one, more than {limit:.0e}: leave --features out; "
            "nothing was published"
        )


def _explain(report: ParityReport, provider: ExecutionProvider, layer: str | None) -> str:
    where = f"; the first layer where they part is {layer}" if layer else ""
    return (
        f"the probabilities of {provider} differ from those of {report.reference} by "
        f"{report.max_probability_difference:.2g}, more than {report.probability_limit:.0e}"
        f"{where}; nothing was published"
    )
