"""Proof of the conversion: the same pictures through PyTorch and through ONNX Runtime."""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from artifact.evidence import ParityReport
from artifact.preprocessing import ImageArray
from export.errors import ParityError
from export.graph import ServingGraph
from runtime.providers import CPU, ExecutionProvider
from runtime.session import Session

BATCH_SIZES = (1, 2, 7, 32)
MAX_PROBABILITY_DIFFERENCE = 1e-5


def run_reference(
    graph: ServingGraph, images: NDArray[np.uint8]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Probabilities and logits from PyTorch, float32 `[batch, classes]`."""
    with torch.inference_mode():
        probabilities, logits = graph(torch.from_numpy(images))
    return probabilities.numpy(), logits.numpy()


def check_parity(
    graph: ServingGraph,
    model: bytes,
    pictures: list[ImageArray],
    provider: ExecutionProvider = CPU,
) -> ParityReport:
    """Compare the two on random, constant and real pictures, in batches of several sizes.

    Args:
        graph: The source.
        model: The ONNX file, run at the optimisation level that serving uses.
        pictures: Real pictures, prepared: uint8 `[height, width, channels]` each.
        provider: Where the ONNX file is run.

    Raises:
        ParityError: A probability differs by more than `MAX_PROBABILITY_DIFFERENCE`.
    """
    session = Session(model, provider)
    logit_difference = probability_difference = 0.0
    images = agreed = 0
    for batch in _batches(pictures):
        expected, expected_logits = run_reference(graph, batch)
        found, found_logits = session.run(batch)
        if found.shape != expected.shape:
            raise ParityError(
                f"ONNX Runtime answers {list(found.shape)} to a batch of {len(batch)}, PyTorch "
                f"{list(expected.shape)}: the batch size is frozen somewhere in the network"
            )
        logit_difference = max(logit_difference, _difference(found_logits, expected_logits))
        probability_difference = max(probability_difference, _difference(found, expected))
        images += len(batch)
        agreed += int((found.argmax(axis=1) == expected.argmax(axis=1)).sum())
    report = ParityReport(
        reference=f"PyTorch {torch.__version__}",
        provider=provider.name,
        precision=provider.precision,
        batch_sizes=BATCH_SIZES,
        images=images,
        max_logit_difference=logit_difference,
        max_probability_difference=probability_difference,
        probability_limit=MAX_PROBABILITY_DIFFERENCE,
        top1_agreement=agreed / images,
    )
    if not report.max_probability_difference <= MAX_PROBABILITY_DIFFERENCE:
        raise ParityError(
            f"ONNX Runtime's probabilities differ from PyTorch's by "
            f"{report.max_probability_difference:.2g}, more than {MAX_PROBABILITY_DIFFERENCE:.0e}; "
            "nothing was published"
        )
    return report


def _batches(pictures: list[ImageArray]) -> Iterator[NDArray[np.uint8]]:
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
    difference = float(np.abs(found.astype(np.float64) - expected).max())
    return difference if np.isfinite(difference) else float("inf")
