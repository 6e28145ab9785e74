"""What is exported: a trained network with everything that its artifact has to promise."""

from dataclasses import dataclass
from pathlib import Path

from torch import nn

from artifact.manifest import Normalization, Provenance
from artifact.preprocessing import Preprocessing
from models.checkpoint import load_checkpoint
from models.data import ImageDataset, load_dataset


@dataclass(frozen=True)
class TrainedNetwork:
    """A network in eval mode and what is known of it.

    Attributes:
        network: From normalised float32 `[batch, channels, height, width]` to logits, float32
            `[batch, classes]`.
        labels: Class names in the order of the logits.
        preprocessing: From a decoded picture to the prepared one.
        normalization: From the prepared picture to the network's input.
        provenance: Where it comes from.
        examples: Real pictures that it was not trained on, with their classes.
        examples_name: Which pictures those are, in words.
    """

    network: nn.Module
    labels: tuple[str, ...]
    preprocessing: Preprocessing
    normalization: Normalization
    provenance: Provenance
    examples: ImageDataset
    examples_name: str


def network_from_checkpoint(path: Path, *, data: str | None = None) -> TrainedNetwork:
    """Read what `convd train` wrote.

    Args:
        path: The checkpoint's folder.
        data: Specification of the data to evaluate on; None takes what it was trained on, and of
            that the part that was held out.

    Raises:
        ModelsError: The checkpoint or the data cannot be read.
    """
    network, description = load_checkpoint(path)
    splits = load_dataset(
        data or description.data, seed=description.split_seed, classes=description.classes
    )
    return TrainedNetwork(
        network=network,
        labels=description.labels,
        preprocessing=description.preprocessing,
        normalization=description.normalization,
        provenance=Provenance(
            source=f"checkpoint {path.name}",
            architecture=description.architecture,
            parameters=sum(tensor.numel() for tensor in network.parameters()),
            training={"data": description.data, **description.training},
        ),
        examples=splits.held_out,
        examples_name=splits.held_out_name,
    )
