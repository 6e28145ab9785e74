"""Networks of torchvision, timm and transformers, with weights of theirs or from a file."""

from dataclasses import replace

from convd.artifact.manifest import Fact
from convd.export.sources.timm_zoo import timm_network
from convd.export.sources.torchvision_zoo import torchvision_network
from convd.export.sources.transformers_folder import transformers_network
from convd.export.sources.weights_file import fill_from_file
from convd.export.sources.zoo import ZooNetwork, ZooRequest
from convd.models.errors import CheckpointMismatchError

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
    try:
        return found, fill_from_file(found.network, request.weights, weights_key)
    except CheckpointMismatchError:
        if request.outputs != 2:
            raise
        # A network of two classes may have one output: its weights say it.
        found = build(name, replace(request, outputs=1))
        return found, fill_from_file(found.network, request.weights, weights_key)
