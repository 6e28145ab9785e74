"""From weights that were saved elsewhere to the network that they belong to."""

import functools
from pathlib import Path

import torch
from torch import nn

from convd.models.errors import CheckpointMismatchError
from convd.models.registry import (
    Architecture,
    Weights,
    create_model,
    find_architecture,
    list_models,
)
from convd.models.weight_sets import strip_prefix
from convd.models.weights import load_weights, shown

_TRAINING_ONLY = frozenset(
    ("criterion", "loss", "loss_fn", "loss_function", "metric", "metrics", "n_averaged")
)
_LIKENESS = 0.5
"""Share of common names and shapes from which weights are said to look like a network's."""


def load_foreign_checkpoint(
    architecture: str,
    path: Path,
    *,
    num_classes: int | None = None,
    in_channels: int | None = None,
    **options: object,
) -> nn.Module:
    """Build a network and fill it with weights that were saved elsewhere.

    Args:
        architecture: A registered name.
        path: See `load_weights`.
        num_classes: Number of classes; None reads it from the weights.
        in_channels: Channels of the pictures; None reads it from the weights.
        options: Options of the architecture.

    Returns:
        The network in eval mode, on the CPU.

    Raises:
        CheckpointError: The weights cannot be read, or belong to another network.
        UnknownArchitectureError: No architecture has this name.
        ArchitectureOptionError: The architecture does not take an option.
    """
    return network_of_weights(
        architecture,
        load_weights(path).tensors,
        num_classes=num_classes,
        in_channels=in_channels,
        **options,
    )


def network_of_weights(
    architecture: str,
    weights: Weights,
    *,
    num_classes: int | None = None,
    in_channels: int | None = None,
    **options: object,
) -> nn.Module:
    """Build a network and fill it with weights; see `load_foreign_checkpoint`.

    Raises:
        CheckpointMismatchError: The weights belong to another network.
        UnknownArchitectureError: No architecture has this name.
        ArchitectureOptionError: The architecture does not take an option.
    """
    known = find_architecture(architecture)
    weights, _ = strip_prefix(known.rename_weights(weights), _shapes(known.name))
    options = {**known.options_of_weights(weights), **options}
    network = create_model(
        architecture,
        num_classes=num_classes or _size(weights, head_keys(known), 0, default=1000),
        in_channels=in_channels or _size(weights, stem_keys(known), 1, default=3),
        **options,
    )
    fill(network, weights, known)
    return network.eval()


def fill_network(network: nn.Module, weights: Weights, name: str) -> tuple[str, ...]:
    """Fill any network with weights, as its own `load_state_dict` takes them.

    Args:
        network: The network.
        weights: Tensors by name; one prefix before all of the network's names does not matter.
        name: Where the weights come from, for the texts.

    Returns:
        Names of the tensors that do not belong to the network and were left out: those that lack
        the prefix, and those of losses and metrics.

    Raises:
        CheckpointMismatchError: A tensor is missing, unexpected or of another shape.
    """
    expected = network.state_dict()
    own, strangers = strip_prefix(weights, expected)
    misshapen = sorted(
        f"{key} {tuple(own[key].shape)} instead of {tuple(expected[key].shape)}"
        for key in expected.keys() & own.keys()
        if expected[key].shape != own[key].shape
    )
    problems = {"lacks": sorted(expected.keys() - own.keys()), "has of another shape": misshapen}
    if not misshapen:
        # What older versions of a layer were called, the layer itself knows.
        result = network.load_state_dict(own, strict=False)
        problems |= {
            "lacks": [
                key for key in result.missing_keys if not key.endswith("num_batches_tracked")
            ],
            "has besides": [
                key for key in result.unexpected_keys if key.partition(".")[0] not in _TRAINING_ONLY
            ],
        }
        strangers = (*strangers, *(set(result.unexpected_keys) - set(problems["has besides"])))
    found = [f"{kind} {shown(sorted(names))}" for kind, names in problems.items() if names]
    if found:
        raise CheckpointMismatchError(
            f"{name} is of another network: it {' and '.join(found)}; give the weights of this one"
        )
    return tuple(sorted(strangers))


def fill(network: nn.Module, weights: Weights, architecture: Architecture) -> None:
    """Copy weights into a network, all of them or none.

    Args:
        network: The network.
        weights: Its weights, renamed already.
        architecture: What the network is.

    Raises:
        CheckpointMismatchError: A tensor is missing, unexpected or of another shape; the text
            names them, and the architecture that the weights look like.
    """
    expected = network.state_dict()
    # Checkpoints older than the counter lack it, and eval mode never reads it.
    missing = sorted(
        name
        for name in expected.keys() - weights.keys()
        if not name.endswith("num_batches_tracked")
    )
    unexpected = sorted(weights.keys() - expected.keys())
    misshapen = sorted(
        f"{name} {tuple(weights[name].shape)} instead of {tuple(expected[name].shape)}"
        for name in expected.keys() & weights.keys()
        if weights[name].shape != expected[name].shape
    )
    if missing or unexpected or misshapen:
        lines = [f"the weights do not fit {architecture.name}"]
        for kind, names in (
            ("missing", missing),
            ("unexpected", unexpected),
            ("of another shape", misshapen),
        ):
            if names:
                lines.append(f"  {len(names)} {kind}: {shown(names)}")
        guess = guess_architecture(weights)
        if guess is not None and guess != architecture.name:
            lines.append(f"the keys look like {guess}'s: load them as {guess}")
        raise CheckpointMismatchError("\n".join(lines))
    network.load_state_dict(weights, strict=False)


def guess_architecture(weights: Weights) -> str | None:
    """The architecture whose names and shapes the weights share most; None where none is near."""
    best, likeness = None, _LIKENESS
    for name in list_models():
        theirs = find_architecture(name).rename_weights(weights)
        ours = _shapes(name)
        # The first and last layers have other shapes with other numbers of channels and classes.
        shared = sum(
            1.0 if tuple(theirs[key].shape) == ours[key] else 0.5
            for key in ours.keys() & theirs.keys()
        )
        if shared / len(ours.keys() | theirs.keys()) > likeness:
            best, likeness = name, shared / len(ours.keys() | theirs.keys())
    return best


@functools.cache
def _shapes(name: str) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        return {key: tuple(each.shape) for key, each in create_model(name).state_dict().items()}


def head_keys(architecture: Architecture) -> list[str]:
    """Names of the tensors whose shape depends on the number of classes."""
    return _changing_keys(architecture, {"num_classes": 2}, {"num_classes": 3})


def stem_keys(architecture: Architecture) -> list[str]:
    """Names of the tensors whose shape depends on the number of channels."""
    return _changing_keys(architecture, {"in_channels": 1}, {"in_channels": 2})


def _changing_keys(
    architecture: Architecture,
    first: dict[str, int],
    second: dict[str, int],
) -> list[str]:
    with torch.device("meta"):
        one = architecture.build(**first).state_dict()
        other = architecture.build(**second).state_dict()
    return [name for name, tensor in one.items() if tensor.shape != other[name].shape]


def _size(weights: Weights, names: list[str], dimension: int, *, default: int) -> int:
    for name in names:
        if name in weights and weights[name].dim() > dimension:
            return max(weights[name].shape[dimension], 1)
    return default
