"""Networks of torchvision, timm and transformers, with weights of theirs or from a file."""

from dataclasses import replace
from pathlib import Path

from torch import nn

from convd.artifact.manifest import Fact
from convd.export.errors import SourceError
from convd.export.sources.timm_zoo import timm_network
from convd.export.sources.torchvision_zoo import torchvision_network
from convd.export.sources.transformers_folder import transformers_network
from convd.export.sources.weights_file import fill_from_file
from convd.export.sources.zoo import ZooNetwork, ZooRequest
from convd.models.errors import CheckpointMismatchError
from convd.models.weight_sets import strip_prefix
from convd.models.weights import load_weights

LIBRARIES = {
    "torchvision": torchvision_network,
    "timm": timm_network,
    "hf": transformers_network,
}
"""What builds a network, by the word before the colon."""


def library_network(
    library: str, name: str, request: ZooRequest, weights_key: str | None
) -> tuple[ZooNetwork, tuple[Fact, ...]]:
    """Build a network and put the weights of a file into it, where one is given.

    Args:
        library: One of `LIBRARIES`.
        name: What comes behind the colon.
        request: What else is asked.
        weights_key: Which of several sets of weights in the file.

    Returns:
        The network, and what is to be said of its weights.

    Raises:
        SourceError: The library is not installed, or lacks what is asked.
        ModelsError: The weights cannot be read, or are of another network.
    """
    build = LIBRARIES[library]
    found = build(name, request)
    if request.weights is None:
        return found, ()
    try:
        return found, fill_from_file(found.network, request.weights, weights_key)
    except CheckpointMismatchError as error:
        if request.outputs == 2:
            # A network of two classes may have one output: its weights say it.
            single = build(name, replace(request, outputs=1))
            try:
                return single, fill_from_file(single.network, request.weights, weights_key)
            except CheckpointMismatchError:
                pass
        reason = _flag_that_helps(found.network, request.weights, weights_key)
        if reason is None:
            raise
        raise SourceError(reason) from error


def _flag_that_helps(network: nn.Module, path: Path, key: str | None) -> str | None:
    """Where nothing differs but the number of classes or of channels, the flag that says it."""
    expected = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    weights, _ = strip_prefix(load_weights(path, key=key).tensors, expected)
    shapes = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    if expected.keys() - shapes.keys():
        return None
    classes, channels = set(), set()
    for name, wanted in expected.items():
        found = shapes[name]
        if found == wanted:
            continue
        if len(found) != len(wanted) or not found:
            return None
        if found[1:] == wanted[1:]:
            classes.add(found[0])
        elif len(found) == 4 and (found[0], *found[2:]) == (wanted[0], *wanted[2:]):
            channels.add(found[1])
        else:
            return None
    if len(channels) == 1 and channels <= {1, 3}:
        order = "L" if channels == {1} else "RGB"
        return (
            f"the weights in {path} are for {channels.pop()} channels: give --channel-order {order}"
        )
    if len(classes) == 1 and not channels:
        number = classes.pop()
        return (
            f"the weights in {path} are for {number} classes: give --labels with {number} names, "
            "in the order of the outputs"
        )
    return None
