"""A network's predictions, and how often they are right."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from convd.artifact.manifest import Normalization
from convd.artifact.preprocessing import Preprocessing
from convd.models.data.dataset import ImageDataset
from convd.models.data.prepared import PreparedDataset
from convd.models.normalization import NormalizeImages


@dataclass(frozen=True)
class Predictions:
    """A network's answers to pictures whose classes are known.

    Attributes:
        logits: float32 `[pictures, classes]`, on the CPU.
        targets: int64 `[pictures]`, the true classes.
    """

    logits: Tensor
    targets: Tensor

    @property
    def classes(self) -> Tensor:
        """The most probable class of each picture, int64 `[pictures]`."""
        return self.logits.argmax(dim=1)

    @property
    def top1(self) -> float:
        """Share of pictures whose most probable class is the true one, 0 to 1."""
        return (self.classes == self.targets).to(torch.float64).mean().item()

    @property
    def confusion(self) -> Tensor:
        """Number of pictures per true class (row) and predicted class (column), int64."""
        classes = self.logits.shape[1]
        cells = torch.bincount(self.targets * classes + self.classes, minlength=classes**2)
        return cells.view(classes, classes)


def predict(
    network: nn.Module,
    dataset: ImageDataset,
    preprocessing: Preprocessing,
    normalization: Normalization,
    *,
    batch_size: int = 64,
) -> Predictions:
    """Run a network over a data set, on the network's device.

    Args:
        network: Takes normalised pictures and returns logits. Its mode is restored afterwards.
        dataset: The pictures; at least one.
        preprocessing: The recipe that the network was trained with.
        normalization: The normalisation that it was trained with.
        batch_size: Pictures per pass.
    """
    prepared = PreparedDataset(dataset, preprocessing, max_bytes_in_memory=0)
    return predict_prepared(network, prepared, NormalizeImages(normalization), batch_size)


def predict_prepared(
    network: nn.Module, dataset: PreparedDataset, normalize: NormalizeImages, batch_size: int
) -> Predictions:
    """Like `predict`, for pictures that are already prepared."""
    device = next(network.parameters()).device
    normalize = normalize.to(device)
    was_training = network.training
    network.eval()
    try:
        with torch.inference_mode():
            logits = [
                network(normalize(batch.images.to(device))).float().cpu()
                for batch in dataset.in_order(batch_size)
            ]
    finally:
        network.train(was_training)
    return Predictions(torch.cat(logits), dataset.targets)
