"""Convd's own architectures, filled with weights that were saved elsewhere."""

from pathlib import Path
from typing import NamedTuple

from torch import Tensor, nn

from convd.artifact.manifest import Fact
from convd.export.errors import SourceError
from convd.export.sources.description import Description
from convd.models.foreign import network_of_weights
from convd.models.registry import Architecture, Options
from convd.models.weights import load_weights

_TRAINING_ONLY = {"dropout", "auxiliary_classifiers"}
_TRANSFORM_INPUT = "transform_input"
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class FilledArchitecture(NamedTuple):
    """A network, and what was taken for granted to build it."""

    network: nn.Module
    facts: tuple[Fact, ...]


class TransformInput(nn.Module):
    """What torchvision's GoogLeNet does first where its training began with published weights.

    It turns pixels that were normalised with ImageNet's mean and std into pixels normalised with
    0.5 and 0.5.

    Args:
        network: The network behind it.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """Transform `[batch, 3, height, width]` and run the network."""
        scale = x.new_tensor(_STD).view(1, 3, 1, 1) / 0.5
        shift = (x.new_tensor(_MEAN).view(1, 3, 1, 1) - 0.5) / 0.5
        logits: Tensor = self.network(x * scale + shift)
        return logits


def fill_architecture(
    architecture: Architecture,
    path: Path,
    description: Description,
    options: Options,
    weights_key: str | None,
) -> FilledArchitecture:
    """Build a network and fill it.

    Args:
        architecture: The architecture.
        path: File with its weights.
        description: What is known of the network.
        options: What weights do not carry, such as the kind of pooling.
        weights_key: Which of several sets of weights.

    Raises:
        ModelsError: The weights cannot be read, or belong to another network.
        SourceError: Something has to be said that weights do not carry.
    """
    height, width = description.preprocessing.output_size
    architecture.check_input_size(min(height, width))
    weights = load_weights(path, key=weights_key)
    told = architecture.options_of_weights(architecture.rename_weights(weights.tensors))
    switches = [name for name in architecture.options if name not in {*_TRAINING_ONLY, *told}]
    if architecture.name == "googlenet":
        switches.append(_TRANSFORM_INPUT)
    _ask_for([name for name in switches if name not in options], architecture)
    own = {name: value for name, value in options.items() if name != _TRANSFORM_INPUT}
    labels = len(description.labels)
    network = network_of_weights(
        architecture.name,
        weights.tensors,
        # A network of two classes may have one output: its weights say it.
        num_classes=None if labels == 2 else labels,
        in_channels=description.preprocessing.channels,
        **own,
    )
    if options.get(_TRANSFORM_INPUT):
        network = TransformInput(network).eval()
    facts = [Fact(subject=name, value=str(options[name]), origin="--option") for name in switches]
    facts.append(Fact(subject="weights", value=weights.choice or path.name, origin="--weights"))
    return FilledArchitecture(network, tuple(facts))


def _ask_for(missing: list[str], architecture: Architecture) -> None:
    if not missing:
        return
    if missing == [_TRANSFORM_INPUT]:
        raise SourceError(
            "googlenet has a switch that weights in a file do not carry: give --option "
            "transform_input=true where torchvision trained it from published weights, or --option "
            "transform_input=false everywhere else"
        )
    flags = " ".join(f"--option {name}=VALUE" for name in missing)
    raise SourceError(
        f"the answers of {architecture.name} depend on its {' and '.join(missing)}, and weights in "
        f"a file do not carry that: give {flags}"
    )
