"""Networks that end in every way that engineers end them, for pictures of 16 x 16."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from tests.export.networks import TinyCnn


class Ending(nn.Module):
    """A small CNN whose logits go through one more function."""

    def __init__(self, outputs: int, end: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.network = TinyCnn(num_classes=outputs)
        with torch.no_grad():
            self.network.linear.weight.mul_(20)
        self.end = end
        self.eval()

    def forward(self, x: Tensor) -> object:
        return self.end(self.network(x))


class TwoHeads(nn.Module):
    """Two classifiers of three classes each, side by side in one output."""

    def __init__(self, end: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.network = TinyCnn(num_classes=3)
        self.other = nn.Linear(8, 3)
        with torch.no_grad():
            self.other.weight.mul_(20)
        self.end = end
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        features = self.network.features(x)
        heads = [self.end(head(features)) for head in (self.network.linear, self.other)]
        return torch.cat(heads, dim=1)


@dataclass
class Answer:
    """As transformers answers."""

    logits: Tensor


def two_softmaxes(x: Tensor) -> Tensor:
    return torch.cat([x[:, :2].softmax(1), x[:, 2:].softmax(1)], dim=1)


def pair(x: Tensor) -> Tensor:
    p = x.sigmoid()
    return torch.cat([1 - p, p], dim=1)


def own_softmax(x: Tensor) -> Tensor:
    powers = torch.exp(x - x.amax(dim=1, keepdim=True))
    return powers / powers.sum(dim=1, keepdim=True)


def average_of_two(x: Tensor) -> Tensor:
    return (x.softmax(dim=1) + (x / 2).softmax(dim=1)) / 2


def spatial(x: Tensor) -> Tensor:
    return x[:, :, None, None]


def spatial_softmax(x: Tensor) -> Tensor:
    return x.view(-1, 2, 2).softmax(dim=2).flatten(1)


def unit_length(x: Tensor) -> Tensor:
    return F.normalize(x, dim=1)


def clipped(x: Tensor) -> Tensor:
    return x.clamp(0, 1)


def scaled_sigmoid(x: Tensor) -> Tensor:
    return 0.2 * x.sigmoid() + 0.4


def masked_softmax(x: Tensor) -> Tensor:
    return x.softmax(dim=1) * torch.tensor([1.0, 1.0, 1.0, 0.0])
