"""Proof of the conversion: the same pictures through the source network and ONNX Runtime."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray

from convd.artifact.evidence import ParityReport
from convd.artifact.graph_contract import OutputArrays, Outputs
from convd.artifact.precision import Precision
from convd.artifact.preprocessing import ImageArray
from convd.export.graph import ServingGraph
from convd.export.progress import Advance
from convd.export.sources.onnx_file import OnnxNetwork
from convd.runtime.session import Session

BATCH_SIZES = (1, 2, 7, 32)


class ReferenceBatch(NamedTuple):
    """Pictures and the source network's answers to them.

    Attributes:
        images: uint8 `[batch, height, width, channels]`.
        answers: What the source network returns for them.
    """

    images: NDArray[np.uint8]
    answers: OutputArrays


def run_reference(graph: ServingGraph, images: NDArray[np.uint8]) -> OutputArrays:
    """What the source network returns for uint8 `[batch, height, width, channels]`."""
    with torch.inference_mode():
        outputs = graph(torch.from_numpy(images))
    return Outputs(*(output.numpy() for output in outputs))


def reference_batches(
    graph: ServingGraph, pictures: Sequence[ImageArray], advance: Advance = lambda _: None
) -> list[ReferenceBatch]:
    """Run the source network on random, constant and real pictures, in batches of several sizes.

    Args:
        graph: The source.
        pictures: Real pictures, prepared: uint8 `[height, width, channels]` each.
        advance: Told of each batch.
    """
    batches = []
    for images in _batches(pictures):
        batches.append(ReferenceBatch(images, run_reference(graph, images)))
        advance(1)
    return batches


def reference_name(graph: ServingGraph) -> str:
    """What the reference is, in words."""
    if isinstance(graph.network, OnnxNetwork):
        return f"the source file in ONNX Runtime {ort.__version__}"
    return f"PyTorch {torch.__version__}"


def measure_parity(
    reference: Sequence[ReferenceBatch],
    session: Session,
    *,
    network_precision: Precision = "float32",
    reference_name: str,
    advance: Advance = lambda _: None,
) -> ParityReport:
    """Compare a session with the source network.

    Args:
        reference: What the source network says.
        session: The converted network, loaded as serving loads it.
        network_precision: The precision of the converted network.
        reference_name: What the source network is, in words.
        advance: Told of each batch.
    """
    differences = []
    agreed = 0
    for batch in reference:
        found, expected = session.run(batch.images), batch.answers
        differences.append(Outputs(*map(_difference, found, expected)))
        same = found.probabilities.argmax(axis=1) == expected.probabilities.argmax(axis=1)
        agreed += int(same.sum())
        advance(1)
    largest = Outputs(*map(max, zip(*differences, strict=True)))
    precision = session.provider.computes_in(network_precision)
    images = sum(len(batch.images) for batch in reference)
    return ParityReport(
        reference=reference_name,
        provider=session.provider.name,
        precision=precision,
        batch_sizes=BATCH_SIZES,
        images=images,
        max_logit_difference=largest.logits,
        max_probability_difference=largest.probabilities,
        probability_limit=session.provider.tolerances[precision].parity,
        top1_agreement=agreed / images,
    )


def _batches(pictures: Sequence[ImageArray]) -> Iterator[NDArray[np.uint8]]:
    generator = np.random.default_rng(0)
    shape = pictures[0].shape
    for size in BATCH_SIZES:
        yield generator.integers(0, 256, (size, *shape), dtype=np.uint8)
        yield np.stack([np.full(shape, level, np.uint8) for level in _levels(size)])
        chosen = generator.choice(len(pictures), size, replace=len(pictures) < size)
        yield np.stack([pictures[index] for index in chosen])


def _levels(count: int) -> list[int]:
    """Constant pictures, from black to white."""
    return [round(level) for level in np.linspace(0, 255, count)]


def _difference(found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    if found.shape != expected.shape:
        return float("inf")
    difference = float(np.abs(found.astype(np.float64) - expected).max())
    return difference if np.isfinite(difference) else float("inf")
