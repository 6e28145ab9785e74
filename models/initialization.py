"""The network before its first step."""

from typing import NamedTuple

import torch
from torch import nn

from convd.artifact.manifest import Normalization
from convd.models.errors import TrainingError
from convd.models.foreign import head_keys
from convd.models.optimization import derived_seed
from convd.models.pretrained import PretrainedWeights, find_pretrained
from convd.models.registry import Architecture, Options, create_model
from convd.models.settings import TrainingSettings
from convd.models.transfer import Transfer, transfer
from convd.models.weights import shown

IMAGENET = Normalization(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


class InitialNetwork(NamedTuple):
    """A network before its first step.

    Attributes:
        network: The network, on the CPU.
        options: Its options.
        normalization: That of the weights it starts with; None where they are random.
        weights: What these weights are, in words.
    """

    network: nn.Module
    options: Options
    normalization: Normalization | None
    weights: str


def initial_network(
    settings: TrainingSettings, architecture: Architecture, *, num_classes: int, in_channels: int
) -> InitialNetwork:
    """Build the network, with random weights or on a trained backbone.

    Args:
        settings: The run's settings.
        architecture: What to build.
        num_classes: Number of classes.
        in_channels: Channels of the pictures.

    Raises:
        ModelsError: The weights cannot be had or do not fit, or an option is not supported.
    """
    options = dict(settings.options)
    pretrained = None if settings.init is None else find_pretrained(settings.init)
    if pretrained is not None:
        options = {**_options_of(pretrained, architecture), **options}
    torch.manual_seed(derived_seed(settings.seed, "weights"))
    network = create_model(
        architecture.name, num_classes=num_classes, in_channels=in_channels, **options
    )
    if pretrained is None:
        return InitialNetwork(network, options, None, "random")
    taken = transfer(network, pretrained.tensors, architecture)
    if settings.freeze_backbone:
        trained = {*head_keys(architecture), *taken.random}
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(name in trained)
    normalization = _normalization_of(pretrained, in_channels)
    return InitialNetwork(network, options, normalization, _in_words(pretrained.origin, taken))


def _options_of(pretrained: PretrainedWeights, architecture: Architecture) -> Options:
    found = architecture.options_of_weights(architecture.rename_weights(pretrained.tensors))
    description = pretrained.description
    if description is None:
        return found
    if description.architecture != architecture.name:
        raise TrainingError(
            f"{pretrained.origin} is a {description.architecture}, not a {architecture.name}: run "
            f"'convd train {description.architecture}'"
        )
    return {**description.options, **found}


def _normalization_of(pretrained: PretrainedWeights, channels: int) -> Normalization | None:
    """The weights' own, or ImageNet's, as nearly all published weights have."""
    own = pretrained.normalization
    if own is None:
        return IMAGENET if channels == len(IMAGENET.mean) else None
    if len(own.mean) == channels:
        return own
    mean, std = sum(own.mean) / len(own.mean), sum(own.std) / len(own.std)
    return Normalization(mean=(mean,) * channels, std=(std,) * channels)


def _in_words(origin: str, taken: Transfer) -> str:
    parts = [origin, "a new last layer"]
    if taken.left_out:
        parts.append(f"left out: {shown(list(taken.left_out))}")
    if taken.random:
        parts.append(f"random: {shown(list(taken.random))}")
    if taken.stem:
        parts.append("first layer adapted to the number of channels")
    return "; ".join(parts)
