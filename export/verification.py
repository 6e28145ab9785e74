"""Proves a converted network on every execution provider of this machine."""

import numpy as np
import onnx

from convd.artifact.evidence import ParityReport
from convd.artifact.precision import Precision
from convd.artifact.preprocessing import ImageArray
from convd.export.conversion import Conversion
from convd.export.divergence import first_divergence
from convd.export.errors import ParityError
from convd.export.graph import ServingGraph
from convd.export.parity import BATCH_SIZES, measure_parity, reference_batches, reference_name
from convd.export.progress import ExportProgress
from convd.runtime.cpu import CPU
from convd.runtime.errors import SessionError
from convd.runtime.provider import ExecutionProvider
from convd.runtime.providers import installed_providers
from convd.runtime.session import Session

_KINDS_OF_PICTURES = 3


def verify(
    graph: ServingGraph,
    conversion: Conversion,
    model: onnx.ModelProto,
    pictures: list[ImageArray],
    precision: Precision,
    progress: ExportProgress,
) -> tuple[ParityReport, ...]:
    """Compare ONNX Runtime with the source on each provider, and refuse what differs too much.

    A provider that computes in less than the network's precision may differ: its report says that
    it is not fit to serve this network, and the artifact then promises nothing for it. Every other
    one has to agree.

    Args:
        graph: The source.
        conversion: The network as it was converted, in float32.
        model: What is to be published.
        pictures: Real pictures, prepared: uint8 `[height, width, channels]` each.
        precision: The precision of what is to be published.
        progress: Told of each stage.

    Returns:
        One report for each provider that is here, the CPU among them.

    Raises:
        ParityError: A probability differs by more than the limit.
    """
    total = len(BATCH_SIZES) * _KINDS_OF_PICTURES
    name = reference_name(graph)
    with progress.stage(f"asking {name}", total) as advance:
        reference = reference_batches(graph, pictures, advance)
    model_bytes = model.SerializeToString()
    reports = []
    for provider in installed_providers():
        try:
            session = Session(model_bytes, provider)
        except SessionError:
            if provider == CPU:
                raise
            continue  # what cannot load it here will be refused there, too
        with progress.stage(f"comparing {provider} with it", total) as advance:
            report = measure_parity(
                reference,
                session,
                network_precision=precision,
                reference_name=name,
                advance=advance,
            )
        reduced = report.precision != precision
        if not report.within_limit and not reduced:
            images = np.stack(pictures[:2])
            layer = first_divergence(conversion, model, images, provider, precision)
            raise ParityError(_explain(report, provider, layer))
        reports.append(report)
    return tuple(reports)


def _explain(report: ParityReport, provider: ExecutionProvider, layer: str | None) -> str:
    where = f"; the first layer where they part is {layer}" if layer else ""
    return (
        f"the probabilities of {provider} differ from those of {report.reference} by "
        f"{report.max_probability_difference:.2g}, more than {report.probability_limit:.0e}"
        f"{where}; nothing was published"
    )
