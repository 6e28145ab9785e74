"""Tiny networks, right and wrong, that the tests export."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from convd.artifact.manifest import Normalization, Provenance
from convd.artifact.preprocessing import Preprocessing, ResizeTo
from convd.export.graph.network_output import Activation
from convd.export.proof.sample_pictures import SamplePictures
from convd.export.source import TrainedNetwork

CLASSES = ("ant", "bee", "cat", "dog", "elk")
SIZE = Preprocessing(resize=ResizeTo(height=16, width=16))
HALF = Normalization(mean=(0.5,) * 3, std=(0.5,) * 3)


class TinyCnn(nn.Module):
    """One convolution and one linear layer; the others here change one thing about it."""

    def __init__(self, in_channels: int = 3, num_classes: int = 5) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.convolution = nn.Conv2d(in_channels, 8, 3)
        self.linear = nn.Linear(8, num_classes)

    def features(self, x: Tensor) -> Tensor:
        maps: Tensor = self.convolution(x)
        return maps.relu().mean(dim=(2, 3))

    def classify(self, features: Tensor) -> Tensor:
        logits: Tensor = self.linear(features)
        return logits

    def forward(self, x: Tensor) -> Tensor:
        return self.classify(self.features(x))


class FrozenByView(TinyCnn):
    def forward(self, x: Tensor) -> Tensor:
        return self.classify(self.features(x).view(3, 8))


class FrozenByInt(TinyCnn):
    def forward(self, x: Tensor) -> Tensor:
        count = int(x.shape[0])
        return self.classify(self.features(x).reshape(count, -1))


class FrozenByLoop(TinyCnn):
    def forward(self, x: Tensor) -> Tensor:
        rows = [self.classify(self.features(one[None]))[0] for one in x]
        return torch.stack(rows)


class AnswersChooseTheCode(TinyCnn):
    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x)
        if x.sum() > 0:
            x = x * 2
        return self.classify(x)


class DropoutLeftOn(TinyCnn):
    def forward(self, x: Tensor) -> Tensor:
        return self.classify(F.dropout(self.features(x), 0.5))


class BatchStatistics(TinyCnn):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3, track_running_stats=False)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(self.norm(x) * torch.arange(16.0))


class FeatureMaps(TinyCnn):
    def forward(self, x: Tensor) -> Tensor:
        maps: Tensor = self.convolution(x)
        return maps


class EndsWithSoftmax(TinyCnn):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).softmax(dim=1)


class WithAuxiliaryOutput(TinyCnn):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        logits = super().forward(x)
        return logits, logits


class SlightlyRandom(TinyCnn):
    """Random enough to fail parity, not enough to be noticed before."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x)
        x = x + 4e-4 * (torch.rand_like(x) - 0.5) * x.abs().max()
        return self.classify(x)


def nan_weights() -> nn.Module:
    network = TinyCnn()
    with torch.no_grad():
        network.linear.weight[2, 3] = float("nan")
    return network.eval()


def build() -> nn.Module:
    return TinyCnn().eval()


def trained(
    network: nn.Module, labels: tuple[str, ...] = CLASSES, *, activation: Activation = "auto"
) -> TrainedNetwork:
    """A network without data, for pictures of 16 x 16."""
    return TrainedNetwork(
        network=network,
        labels=labels,
        preprocessing=SIZE,
        normalization=HALF,
        provenance=Provenance(source="a test"),
        examples=SamplePictures(),
        activation=activation,
    )
