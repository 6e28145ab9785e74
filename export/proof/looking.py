"""A network that does not look at its pictures is not published."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from convd.artifact.manifest import NetworkOutput, Normalization
from convd.export.errors import BlindNetworkError
from convd.export.proof.pictures import PicturePool
from convd.export.proof.reference import Reference, as_rows, probabilities_of

_LEAST_CHANGE = 0.05
"""A probability that changes by more than this shows that the network looks."""

_LEAST_RATIO = 0.03
"""Spread of a logit over pictures, relative to the spread of the mean logits over classes. Networks
with random weights of every architecture here have at least 0.3; the same networks with pixels 255
times too small have at most 0.01."""

_SMALLEST = 1e-12
_SHOWN = 24


class Look(NamedTuple):
    """How much a network's answers depend on the picture.

    Attributes:
        change: Largest change of a probability over all pictures, 0 to 1.
        ratio: Spread of a logit over pictures relative to that over classes.
    """

    change: float
    ratio: float

    @property
    def is_blind(self) -> bool:
        """Whether the answers are nearly the same whatever is shown."""
        return self.change < _LEAST_CHANGE and self.ratio < _LEAST_RATIO


def look_at(output: NetworkOutput, outputs: NDArray[np.float32]) -> Look:
    """Measure how much answers differ.

    Args:
        output: What the outputs are.
        outputs: `[pictures, outputs]` of black, white, random and real pictures.
    """
    probabilities = probabilities_of(output, outputs)
    change = float((probabilities.max(axis=0) - probabilities.min(axis=0)).max())
    logits = np.log(np.maximum(probabilities, _SMALLEST))
    if output.startswith("independent"):
        logits = logits - np.log(np.maximum(1 - probabilities, _SMALLEST))
        scale = float(np.sqrt((logits.mean(axis=0) ** 2).mean()))
    else:
        logits = logits - logits.mean(axis=1, keepdims=True)
        scale = float(logits.mean(axis=0).std())
    return Look(change, float(logits.std(axis=0).max()) / max(scale, 1e-6))


def check_that_it_looks(
    reference: Reference,
    pool: PicturePool,
    output: NetworkOutput,
    outputs: NDArray[np.float32],
    normalization: Normalization | None,
) -> Look:
    """Refuse a network that gives nearly the same answer whatever it is shown.

    Args:
        reference: The network.
        pool: Black, white, random and real pictures.
        output: What its outputs are.
        outputs: What it answers to them.
        normalization: What its pixels are normalised with.

    Raises:
        BlindNetworkError: It does; the text says what is suspicious.
    """
    found = look_at(output, outputs)
    if not found.is_blind:
        return found
    text = (
        f"the network does not look at its pictures: between black, white, noise and real pictures "
        f"no probability changes by more than {found.change:.2g}"
    )
    better = _what_would_help(reference, pool, output, normalization)
    raise BlindNetworkError(
        f"{text}; {better}"
        if better
        else f"{text}, with none of the usual values of --mean and --std either: its weights are "
        "untrained, or belong to another network"
    )


def _what_would_help(
    reference: Reference,
    pool: PicturePool,
    output: NetworkOutput,
    normalization: Normalization | None,
) -> str | None:
    """Try other normalisations and sizes; name the first with which it looks."""
    if normalization is None:
        return None
    every = max(1, len(pool.images) // _SHOWN)
    images = pool.images[::every]
    channels = images.shape[3]
    for mean, std, meaning in (
        ((0.0,), (1.0,), "pixels from 0 to 1"),
        ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), "ImageNet's mean and std"),
        ((0.0,), (1 / 255,), "pixels from 0 to 255, which the network scales by itself"),
    ):
        if len(mean) not in (1, channels):
            continue
        repeat = channels // len(mean)
        other = Normalization(mean=mean * repeat, std=std * repeat)
        outputs = as_rows(reference.outputs_with(images, other))
        if np.isfinite(outputs).all() and not look_at(output, outputs).is_blind:
            flags = f"--mean {_list(mean)} --std {_list(std)}"
            return f"--mean and --std are suspicious: with {flags} ({meaning}) it looks"
    height, width = images.shape[1:3]
    for factor in (2, 4, 8):
        larger = np.repeat(np.repeat(images, factor, axis=1), factor, axis=2)
        try:
            outputs = as_rows(reference.outputs_with(larger, normalization))
        # A network that takes this size only fails on others.
        except Exception:
            return None
        if not look_at(output, outputs).is_blind:
            return (
                f"the size is suspicious: with pictures of {height * factor} x {width * factor} it "
                "looks; give --resize and --crop as in training"
            )
    return None


def _list(numbers: tuple[float, ...]) -> str:
    return ",".join(f"{number:.6g}" for number in numbers)
