"""What is exported: a trained network with everything that its artifact has to promise."""

from dataclasses import dataclass

from torch import nn

from convd.artifact.manifest import Normalization, Provenance
from convd.artifact.preprocessing import Preprocessing
from convd.export.sample_pictures import SamplePictures
from convd.models.data import ImageDataset


@dataclass(frozen=True)
class TrainedNetwork:
    """A network in eval mode and what is known of it.

    Attributes:
        network: From normalised float32 `[batch, channels, height, width]` to logits, float32
            `[batch, classes]`.
        labels: Class names in the order of the logits.
        preprocessing: From a decoded picture to the prepared one.
        normalization: From the prepared picture to the network's input; None for a network that
            takes the prepared picture itself, uint8 `[batch, channels, height, width]`.
        provenance: Where it comes from.
        examples: Real pictures that it was not trained on, with their classes; or pictures without
            classes, where there are none.
        examples_name: Which pictures those are, in words.
    """

    network: nn.Module
    labels: tuple[str, ...]
    preprocessing: Preprocessing
    normalization: Normalization | None
    provenance: Provenance
    examples: ImageDataset | SamplePictures
    examples_name: str


def count_parameters(network: nn.Module) -> int:
    """Number of trained parameters."""
    return sum(tensor.numel() for tensor in network.parameters())
