"""What is exported: a trained network with everything that its artifact has to promise."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image
from torch import Tensor, nn

from convd.artifact.evidence import Accuracy
from convd.artifact.manifest import Fact, Normalization, Provenance
from convd.artifact.preprocessing import Preprocessing
from convd.export.graph.network_output import Activation
from convd.export.proof.sample_pictures import SamplePictures
from convd.export.sources.description import GivenDescription
from convd.export.sources.labelled_pictures import LabelledPictures


@dataclass(frozen=True)
class TrainedNetwork:
    """A network in eval mode and what is known of it.

    Attributes:
        network: From normalised float32 `[batch, channels, height, width]` to one row of outputs
            for each picture.
        labels: Class names in the order of the outputs.
        preprocessing: From a decoded picture to the prepared one.
        normalization: From the prepared picture to the network's input; None for a network that
            takes the prepared picture itself, uint8 `[batch, channels, height, width]`.
        provenance: Where it comes from.
        examples: Real pictures that it was not trained on, with what they show; or pictures without
            labels, where there are none.
        activation: What has still to be applied to its outputs to make probabilities of them, as
            far as the user says.
        library_recipe: What the library that published the weights does to a picture, to float32
            `[channels, height, width]`; None where there is none, or where the user's recipe is
            another.
        given: What the user said of it.
        weights: File that the network was filled from, and the set of weights that was asked for.
        recorded_accuracy: What training measured; None where that is not known.
        is_untrained: Whether the weights are known to be random.
        facts: What was taken for granted, and from where.
    """

    network: nn.Module
    labels: tuple[str, ...]
    preprocessing: Preprocessing
    normalization: Normalization | None
    provenance: Provenance
    examples: LabelledPictures | SamplePictures
    activation: Activation = "auto"
    library_recipe: Callable[[Image.Image], Tensor] | None = None
    given: GivenDescription = field(default_factory=GivenDescription)
    weights: tuple[Path, str | None] | None = None
    recorded_accuracy: Accuracy | None = None
    is_untrained: bool = False
    facts: tuple[Fact, ...] = ()


def count_parameters(network: nn.Module) -> int:
    """Number of trained parameters."""
    return sum(tensor.numel() for tensor in network.parameters())
