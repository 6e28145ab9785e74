"""From prepared pictures to a network's input."""

import torch
from torch import Tensor, nn

from convd.artifact.manifest import Normalization


class NormalizeImages(nn.Module):
    """Turn uint8 pictures into normalised floats.

    Training, evaluation and the exported graph all start with this module, so they cannot differ
    in normalisation.

    Args:
        normalization: Mean and standard deviation per channel, of pixels scaled to 0..1.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, normalization: Normalization) -> None:
        super().__init__()
        # These are constants of the preprocessing, not weights, so they stay out of the state_dict.
        shape = (1, len(normalization.mean), 1, 1)
        self.register_buffer("mean", torch.tensor(normalization.mean).view(shape), persistent=False)
        self.register_buffer("std", torch.tensor(normalization.std).view(shape), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """Scale to 0..1, subtract the mean, divide by the standard deviation.

        Args:
            image: uint8 `[batch, height, width, channels]`.

        Returns:
            float32 `[batch, channels, height, width]`.
        """
        x = image.permute(0, 3, 1, 2).to(torch.float32)
        return (x / 255 - self.mean) / self.std
