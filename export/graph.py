"""The graph that is served: from uint8 pictures to probabilities, with nothing left outside."""

from torch import Tensor, nn

from convd.artifact.graph_contract import Outputs
from convd.artifact.manifest import Normalization
from convd.models.normalization import NormalizeImages


class ChannelsFirst(nn.Module):
    """The layout that networks take, for one that normalises by itself."""

    def forward(self, image: Tensor) -> Tensor:
        """Turn uint8 `[batch, height, width, channels]` into `[batch, channels, height, width]`."""
        return image.permute(0, 3, 1, 2)


class ServingGraph(nn.Module):
    """Normalisation, the network, temperature and softmax in one.

    Args:
        network: The trained network, which gives logits.
        normalization: What was done to the pixels in training; None for a network that takes uint8
            pictures and normalises them by itself.
        temperature: What the logits are divided by before softmax (Guo et al., "On Calibration of
            Modern Neural Networks", 2017); 1 leaves them as they are.
    """

    def __init__(
        self, network: nn.Module, normalization: Normalization | None, temperature: float = 1.0
    ) -> None:
        super().__init__()
        self.normalize = NormalizeImages(normalization) if normalization else ChannelsFirst()
        self.network = network
        self.temperature = temperature

    def forward(self, image: Tensor) -> Outputs[Tensor]:
        """Classify pictures.

        Args:
            image: uint8 `[batch, height, width, channels]`.

        Returns:
            Float32 `[batch, classes]` each.
        """
        logits = self.network(self.normalize(image)).float()
        return Outputs(
            probabilities=(logits / self.temperature).softmax(dim=1),
            logits=logits,
        )
