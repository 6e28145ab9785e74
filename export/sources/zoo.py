"""What torchvision, timm and transformers have in common."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from PIL import Image
from torch import Tensor, nn

from convd.artifact.manifest import Fact, Normalization
from convd.artifact.preprocessing import Interpolation, Preprocessing
from convd.export.errors import SourceError
from convd.export.graph.network_output import Activation
from convd.models.registry import Options

RANDOM = "random"
"""Names random weights, to try a network out or to fill it from a file."""

_FILTERS: dict[str, Interpolation] = {
    "nearest": "nearest",
    "box": "box",
    "bilinear": "bilinear",
    "hamming": "hamming",
    "bicubic": "bicubic",
    "lanczos": "lanczos",
}

Recipe = Callable[[Image.Image], Tensor]
"""From a picture to float32 `[channels, height, width]`, by the library's own code."""


class ZooNetwork(NamedTuple):
    """A network and what its library knows of it.

    Attributes:
        network: The network.
        labels: Class names of the weights; None where the classes are others.
        preprocessing: The recipe of the weights; None where the library does not say it.
        normalization: Likewise.
        origin: Which weights that is, in words.
        recipe: The library's own code for that.
        is_random: Whether the library gave no weights.
        facts: What else was taken for granted.
        activation: What makes probabilities of its outputs.
    """

    network: nn.Module
    labels: tuple[str, ...] | None
    preprocessing: Preprocessing | None
    normalization: Normalization | None
    origin: str
    recipe: Recipe | None
    is_random: bool
    facts: tuple[Fact, ...] = ()
    activation: Activation = "softmax"


@dataclass(frozen=True)
class ZooRequest:
    """What is asked of a library.

    Attributes:
        outputs: Number of outputs of a network that is filled from a file or left random; None
            takes the library's.
        channels: Channels of the pictures; None takes the library's.
        recipe: The weights whose recipe is taken; None takes those that are named, or the default.
        weights: The file that the network will be filled from; nothing is downloaded then.
        options: Options of the network, as its library takes them.
    """

    outputs: int | None = None
    channels: int | None = None
    recipe: str | None = None
    weights: Path | None = None
    options: Options = field(default_factory=dict)


def option_facts(request: ZooRequest) -> tuple[Fact, ...]:
    """The options that the user gave."""
    return tuple(
        Fact(subject=name, value=str(value), origin="--option")
        for name, value in request.options.items()
    )


def distinct(labels: list[str]) -> tuple[str, ...]:
    """Number the labels that occur twice: ImageNet has two cranes, a bird and a machine."""
    counts = Counter(labels)
    return tuple(
        f"{label} ({index})" if counts[label] > 1 else label for index, label in enumerate(labels)
    )


def interpolation(name: str) -> Interpolation:
    """The filter that torchvision, timm and Pillow call by a name.

    Raises:
        SourceError: convd lacks it.
    """
    try:
        return _FILTERS[name.lower()]
    except KeyError:
        raise SourceError(
            f"pictures of this network are scaled with {name!r}, which convd lacks"
        ) from None


def first_line(error: Exception) -> str:
    """The first line of what an error says."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
