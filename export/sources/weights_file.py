"""Fills networks that convd does not know with weights from files."""

from pathlib import Path

from torch import nn

from convd.artifact.manifest import Fact
from convd.models.foreign import fill_network
from convd.models.weight_sets import LoadedWeights
from convd.models.weights import load_weights, shown


def fill_from_file(network: nn.Module, path: Path | None, key: str | None) -> tuple[Fact, ...]:
    """Put the weights of a file, where one is given, into a network that convd does not know.

    Args:
        network: The network.
        path: The file; None leaves the network as it is.
        key: Which of several sets of weights.

    Returns:
        Which weights were taken, and what was left out.

    Raises:
        CheckpointError: The file cannot be read, or is of another network.
    """
    if path is None:
        return ()
    weights = load_weights(path, key=key)
    left_out = fill_network(network, weights.tensors, str(path))
    return _weights_facts(path, weights, left_out)


def _weights_facts(
    path: Path, weights: LoadedWeights, left_out: tuple[str, ...] = ()
) -> tuple[Fact, ...]:
    facts = [Fact(subject="weights", value=weights.choice or path.name, origin="--weights")]
    if left_out:
        text = f"left out of the file: {shown(list(left_out))}"
        facts.append(Fact(subject="weights", value=text, origin="the network has no such layers"))
    return tuple(facts)
