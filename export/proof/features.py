"""The features that are served, against what the network's own last layer takes."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from convd.artifact.manifest import NetworkOutput, Task
from convd.export.errors import ParityError
from convd.export.graph.head import Head, values_of
from convd.export.graph.network_graph import NetworkGraph
from convd.export.proof.parity import normalised, served_output
from convd.export.proof.reference import Images, network_input, probabilities_of
from convd.export.source import TrainedNetwork
from convd.export.sources.onnx_file import OnnxNetwork

_DIFFERENCE = 1e-4
_BATCH_SIZE = 16


def reference_features(
    source: TrainedNetwork, graph: NetworkGraph, head: Head, images: Images
) -> NDArray[np.float32]:
    """What the network's own last linear layer takes.

    PyTorch is watched while it runs the user's network; a network that is an ONNX file has its
    value read in a plain session.

    Args:
        source: The network.
        graph: The same as ONNX.
        head: What the conversion took for its last layer.
        images: uint8 `[pictures, height, width, channels]`.

    Returns:
        float32 `[pictures, length]`.

    Raises:
        ParityError: The network's last layer is another one, or cannot be watched.
    """
    parts = []
    for start in range(0, len(images), _BATCH_SIZE):
        inputs = network_input(images[start : start + _BATCH_SIZE], source.normalization)
        if isinstance(source.network, OnnxNetwork):
            if graph.input.channels_last:
                inputs = np.ascontiguousarray(inputs.transpose(0, 2, 3, 1))
            (values,) = values_of(graph, [head.features], inputs)
        else:
            values = _watched(source.network, torch.from_numpy(inputs))
        parts.append(values.reshape(len(inputs), -1))
    return np.concatenate(parts)


def check_head(
    features: NDArray[np.float32], head: Head, output: NetworkOutput, outputs: NDArray[np.float32]
) -> None:
    """Compare the last layer, computed from its features, with what the network answers.

    Args:
        features: `[pictures, length]`.
        head: Weights and bias.
        output: What the network's outputs are.
        outputs: The network's outputs, `[pictures, outputs]`.

    Raises:
        ParityError: They differ, so the weights are not those of the last layer.
    """
    task: Task = "multilabel" if output.startswith("independent") else "multiclass"
    logits = features @ head.weights.T + head.bias
    found = probabilities_of(served_output(task), logits)
    wanted = normalised(probabilities_of(output, outputs), task)
    difference = float(np.abs(found - wanted).max()) if found.shape == wanted.shape else np.inf
    if not difference <= _DIFFERENCE:
        raise ParityError(
            "the weights that --features found for the last layer give other probabilities than "
            f"the network (by {difference:.2g}): leave it out; nothing was published"
        )


def _watched(network: nn.Module, inputs: Tensor) -> NDArray[np.float32]:
    taken: list[Tensor] = []

    def note(_module: nn.Module, given: tuple[Any, ...]) -> None:
        taken[:] = [given[0].detach()]

    hooks = [
        module.register_forward_pre_hook(note)
        for module in network.modules()
        if isinstance(module, nn.Linear)
    ]
    try:
        with torch.inference_mode():
            network(inputs)
    finally:
        for hook in hooks:
            hook.remove()
    if not taken:
        raise ParityError(
            "--features cannot be proved: the network has no nn.Linear to watch; end it with one, "
            "or leave --features out; nothing was published"
        )
    return taken[0].float().numpy()
