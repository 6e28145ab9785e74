"""A network that reads digits well without any training: nearest class means, as a convolution."""

import torch
from torch import Tensor, nn

from convd.artifact.manifest import Normalization, Provenance
from convd.artifact.preprocessing import Preprocessing, ResizeTo, prepare_image
from convd.export.source import TrainedNetwork
from convd.export.sources.labelled_pictures import from_classes
from convd.models.data import ImageDataset, load_dataset

SCALED = Normalization(mean=(0.0,), std=(1.0,))
PIXELS = Preprocessing(resize=ResizeTo(height=8, width=8), channel_order="L")


class ClassMeans(nn.Module):
    """Minus the squared distance to the mean of each class, times a sharpness.

    A sharpness other than the right one leaves accuracy as it is and spoils the probabilities.
    """

    def __init__(self, sharpness: float = 1.0) -> None:
        super().__init__()
        train = load_dataset("digits").train
        pictures = torch.stack([_pixels(train, index) for index in range(len(train))])
        targets = torch.tensor([train.target(index) for index in range(len(train))])
        means = torch.stack([pictures[targets == kind].mean(dim=0) for kind in range(10)])
        self.convolution = nn.Conv2d(1, 10, 8)
        self.linear = nn.Linear(10, 10)
        with torch.no_grad():
            self.convolution.weight.copy_(2 * means.unsqueeze(1))
            self.convolution.bias = nn.Parameter(-means.square().sum(dim=(1, 2)))
            self.linear.weight.copy_(sharpness * torch.eye(10))
            self.linear.bias.zero_()

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.linear(self.convolution(x).flatten(1))
        return logits


class SpoiledByRounding(ClassMeans):
    """One channel that is a thousand times larger than the others takes all 8 bits for itself."""

    def __init__(self) -> None:
        super().__init__()
        wide = nn.Conv2d(1, 11, 8)
        linear = nn.Linear(11, 10)
        with torch.no_grad():
            wide.weight.copy_(torch.cat([self.convolution.weight, torch.full((1, 1, 8, 8), 1e3)]))
            assert self.convolution.bias is not None
            wide.bias = nn.Parameter(torch.cat([self.convolution.bias, torch.zeros(1)]))
            linear.weight.copy_(torch.cat([torch.eye(10), torch.zeros(10, 1)], dim=1))
            linear.bias.zero_()
        self.convolution, self.linear = wide, linear


def trained_on_digits(network: nn.Module) -> TrainedNetwork:
    splits = load_dataset("digits")
    return TrainedNetwork(
        network=network.eval(),
        labels=splits.labels,
        preprocessing=PIXELS,
        normalization=SCALED,
        provenance=Provenance(source="a test"),
        examples=from_classes(splits.held_out, splits.labels, splits.held_out_name),
    )


def _pixels(dataset: ImageDataset, index: int) -> Tensor:
    picture = dataset.picture(index)
    return torch.from_numpy(prepare_image(picture, PIXELS)).squeeze(2) / 255
