"""What the user has: the network itself, run as its own code would be run.

Nothing here uses what conversion, the artifact or the server use: normalisation and activations are
written once more, so that a fault there cannot be on both sides of the comparison.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from convd.artifact.manifest import NetworkOutput, Normalization
from convd.export.errors import ConversionError

Images = NDArray[np.uint8]
"""Prepared pictures: uint8 `[batch, height, width, channels]`."""


class OneTensor(nn.Module):
    """A network whose answer is one float32 tensor, whatever it is wrapped in.

    Args:
        network: The user's network.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """Take the logits out of what the network answers."""
        return one_tensor(self.network(x)).float()


def one_tensor(answer: Any) -> Tensor:  # noqa: ANN401
    """Find the rows of outputs in what a network answers.

    Args:
        answer: A tensor; a dict, dataclass or object that has `logits`; or a collection with one
            tensor of two dimensions.

    Raises:
        ConversionError: There is none, or more than one that could be meant.
    """
    if isinstance(answer, Tensor):
        return answer
    named = answer.get("logits") if isinstance(answer, Mapping) else None
    named = named if named is not None else getattr(answer, "logits", None)
    if isinstance(named, Tensor):
        return named
    parts = answer.values() if isinstance(answer, Mapping) else answer
    parts = list(parts) if isinstance(answer, Mapping | tuple | list) else []
    rows = [part for part in parts if isinstance(part, Tensor) and part.ndim == 2]
    if len(rows) != 1:
        raise ConversionError(
            f"the network gives a {type(answer).__name__} with {len(rows)} tensors that could be "
            "its outputs: it must return its logits alone, one tensor; give a function that wraps "
            "it"
        )
    return rows[0]


class Reference:
    """The user's network.

    Args:
        network: The network, in eval mode.
        normalization: What its pixels are normalised with; None where it takes pixels.
    """

    def __init__(self, network: nn.Module, normalization: Normalization | None) -> None:
        self._network = OneTensor(network).eval()
        self._normalization = normalization

    def outputs(self, images: Images) -> NDArray[np.float32]:
        """What the network itself answers, float32, in whatever shape it does.

        Args:
            images: uint8 `[batch, height, width, channels]`.
        """
        return self.outputs_with(images, self._normalization)

    def outputs_with(
        self, images: Images, normalization: Normalization | None
    ) -> NDArray[np.float32]:
        """What the network answers when its pixels are normalised in another way."""
        return self.run(network_input(images, normalization))

    def run(self, inputs: NDArray[Any]) -> NDArray[np.float32]:
        """What the network answers to its inputs, in whatever shape they are."""
        with torch.inference_mode():
            answer: NDArray[np.float32] = self._network(torch.from_numpy(inputs)).cpu().numpy()
        return answer

    @property
    def normalization(self) -> Normalization | None:
        """What its pixels are normalised with."""
        return self._normalization

    @property
    def name(self) -> str:
        """What it is, in words."""
        if hasattr(self._network.network, "model"):
            return f"the source file in ONNX Runtime {ort.__version__}"
        return f"PyTorch {torch.__version__}"


def network_input(images: Images, normalization: Normalization | None) -> NDArray[Any]:
    """Pixels as the network was trained on them.

    Returns:
        float32 `[batch, channels, height, width]`; uint8 where nothing normalises them.
    """
    if normalization is None:
        return np.ascontiguousarray(images.transpose(0, 3, 1, 2))
    scaled = images.astype(np.float64) / 255
    normalized = (scaled - np.array(normalization.mean)) / np.array(normalization.std)
    return np.ascontiguousarray(normalized.astype(np.float32).transpose(0, 3, 1, 2))


def as_rows(outputs: NDArray[np.float32]) -> NDArray[np.float32]:
    """One row for each picture: `[batch]` and `[batch, classes, 1, 1]` are rows, too."""
    return outputs.reshape(len(outputs), -1)


def probabilities_of(
    output: NetworkOutput, values: NDArray[np.float32], temperature: float = 1.0
) -> NDArray[np.float64]:
    """Make probabilities of a network's outputs.

    Args:
        output: What the outputs are.
        values: `[batch, outputs]`.
        temperature: What logits are divided by first; only for outputs that are logits.

    Returns:
        `[batch, labels]`.
    """
    rows = values.astype(np.float64)
    if output in ("probabilities", "independent_probabilities"):
        return rows
    if output == "one_probability":
        return np.concatenate([1 - rows, rows], axis=1)
    rows = rows / temperature
    if output in ("logits", "log_probabilities"):
        powers = np.exp(rows - rows.max(axis=1, keepdims=True))
        if output == "log_probabilities" and temperature == 1:
            return np.exp(rows)
        softmax: NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
        return softmax
    sigmoid: NDArray[np.float64] = 0.5 * (1 + np.tanh(rows / 2))
    return np.concatenate([1 - sigmoid, sigmoid], axis=1) if output == "one_logit" else sigmoid
