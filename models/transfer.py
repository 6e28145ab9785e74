"""Transfer learning: the backbone of trained weights, whatever head was on it."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from convd.models.foreign import fill, head_keys, stem_keys
from convd.models.registry import Architecture, Weights
from convd.models.weight_sets import strip_prefix


class Transfer(NamedTuple):
    """What of the weights a network started with, by the names of tensors.

    Attributes:
        left_out: Tensors of the weights that it did not take, such as their head.
        random: Its own tensors besides the head that the weights did not have.
        stem: Whether the first convolution was changed to another number of channels.
    """

    left_out: tuple[str, ...]
    random: tuple[str, ...]
    stem: bool


def transfer(network: nn.Module, weights: Weights, architecture: Architecture) -> Transfer:
    """Copy the backbone of trained weights into a network; its last layer stays random.

    All convolutions and normalisation layers have to be there. Fully connected layers below the
    last one, as VGG and AlexNet have, are taken where they fit.

    Args:
        network: The network.
        weights: Weights, under the names of this architecture after any prefix.
        architecture: What the network is.

    Raises:
        CheckpointMismatchError: A convolution or normalisation layer is missing or of another
            shape; the text says what was found.
    """
    own = network.state_dict()
    head = head_keys(architecture)
    wanted = {name: tensor for name, tensor in own.items() if name not in head}
    found, strangers = _own_names(network, architecture.rename_weights(weights), wanted)
    stem = False
    for name in stem_keys(architecture):
        adapted = _adapt_channels(found.get(name), own[name])
        if adapted is not None:
            found[name], stem = adapted, True
    fitting = {
        name: tensor
        for name, tensor in found.items()
        if name in wanted and tensor.shape == wanted[name].shape
    }
    optional = _fully_connected(network)
    random = {name for name in wanted if not name.endswith("num_batches_tracked")} - fitting.keys()
    if random - optional:
        fill(network, {**found, **{name: own[name] for name in head if name in own}}, architecture)
    network.load_state_dict({**own, **fitting})
    left_out = (*strangers, *(name for name in found if name not in fitting))
    return Transfer(tuple(sorted(left_out)), tuple(sorted(random)), stem)


def _own_names(
    network: nn.Module, weights: Weights, wanted: Weights
) -> tuple[Weights, tuple[str, ...]]:
    """Rename weights to the network's names; also those of `nn.Sequential(*network.children())`."""
    found, strangers = strip_prefix(weights, wanted)
    numbered = {
        f"{index}.{rest}": f"{child}.{rest}"
        for index, (child, module) in enumerate(network.named_children())
        for rest in module.state_dict()
        if f"{child}.{rest}" in wanted
    }
    if len(found.keys() & wanted.keys()) < len(wanted) / 2:
        by_number, others = strip_prefix(weights, numbered)
        if len(by_number.keys() & numbered.keys()) > len(found.keys() & wanted.keys()):
            return {numbered.get(name, name): each for name, each in by_number.items()}, others
    return found, strangers


def _fully_connected(network: nn.Module) -> set[str]:
    return {
        f"{name}.{kind}"
        for name, module in network.named_modules()
        if isinstance(module, nn.Linear)
        for kind in module.state_dict()
    }


def _adapt_channels(kernels: Tensor | None, own: Tensor) -> Tensor | None:
    """Kernels for another number of channels; None where they fit, or differ in more.

    A colour's kernels add up to those of grey, whose three channels are equal; grey's are divided
    among the colours. timm does so, too.
    """
    if kernels is None or kernels.dim() != own.dim() or kernels.shape[1] == own.shape[1]:
        return None
    if kernels.shape[:1] + kernels.shape[2:] != own.shape[:1] + own.shape[2:]:
        return None
    grey = kernels.to(torch.float32).sum(dim=1, keepdim=True)
    return (grey / own.shape[1]).expand(own.shape).contiguous()
