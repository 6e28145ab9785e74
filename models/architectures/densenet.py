"""DenseNet (2016): every layer sees the feature maps of all layers before it.

Huang, Liu, van der Maaten and Weinberger, "Densely Connected Convolutional Networks", CVPR 2017;
depths are those of its table 1 (DenseNet-BC, with bottlenecks and compression 0.5). DenseNet-161,
with growth rate 48, is from the authors' published code.

Parameter names are torchvision's, so that its weights load.
"""

import re
from functools import partial

import torch
from torch import Tensor, nn

from convd.models.registry import Weights, register_model
from convd.models.stages import FEATURES, LOGITS, PRE_LOGITS, StagedNetwork, Stages

BOTTLENECK_WIDTH = 4
"""Channels of a layer's 1 x 1 convolution, as a multiple of the growth rate."""


class DenseLayer(nn.Module):
    """Batch normalisation, ReLU and convolution, twice: 1 x 1, then 3 x 3.

    Args:
        in_channels: Channels of the input.
        growth_rate: Channels of the output.
        dropout: Share of the output dropped in training.
    """

    def __init__(self, in_channels: int, growth_rate: int, dropout: float) -> None:
        super().__init__()
        wide = BOTTLENECK_WIDTH * growth_rate
        self.norm1 = nn.BatchNorm2d(in_channels)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv1 = nn.Conv2d(in_channels, wide, kernel_size=1, bias=False)
        self.norm2 = nn.BatchNorm2d(wide)
        self.relu2 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(wide, growth_rate, kernel_size=3, padding=1, bias=False)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """From `[batch, in_channels, h, w]` to `[batch, growth_rate, h, w]`."""
        x = self.conv1(self.relu1(self.norm1(x)))
        x = self.conv2(self.relu2(self.norm2(x)))
        dropped: Tensor = self.dropout(x)
        return dropped


class DenseBlock(nn.Module):
    """Layers that each append their feature maps to those of the layers before.

    Args:
        layers: Number of layers.
        in_channels: Channels of the input.
        growth_rate: Channels that each layer adds.
        dropout: Share of each layer's output that training drops.
    """

    def __init__(self, layers: int, in_channels: int, growth_rate: int, dropout: float) -> None:
        super().__init__()
        for index in range(layers):
            layer = DenseLayer(in_channels + index * growth_rate, growth_rate, dropout)
            self.add_module(f"denselayer{index + 1}", layer)

    def forward(self, x: Tensor) -> Tensor:
        """Add `layers * growth_rate` channels to `[batch, in_channels, height, width]`."""
        for layer in self.children():
            x = torch.cat([x, layer(x)], dim=1)
        return x


class Transition(nn.Sequential):
    """Between two blocks: half the channels, half the height and width.

    Args:
        in_channels: Channels of the input.
    """

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(in_channels)
        self.relu = nn.ReLU(inplace=True)
        self.conv = nn.Conv2d(in_channels, in_channels // 2, kernel_size=1, bias=False)
        self.pool = nn.AvgPool2d(kernel_size=2, stride=2)


class DenseNet(StagedNetwork):
    """A stem, four dense blocks with transitions between them, and one linear layer.

    Args:
        layers_per_block: Layers in each of the four blocks.
        growth_rate: Channels that each layer adds.
        stem_channels: Channels of the stem.
        num_classes: Number of classes.
        in_channels: Channels of the pictures.
        dropout: Share of each layer's output that training drops.
    """

    def __init__(
        self,
        layers_per_block: tuple[int, int, int, int],
        growth_rate: int,
        stem_channels: int,
        /,
        *,
        num_classes: int = 1000,
        in_channels: int = 3,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.features = nn.Sequential()
        # Shapes are those of an input of 224 x 224, channels those of DenseNet-121.
        self.features.conv0 = nn.Conv2d(
            in_channels, stem_channels, kernel_size=7, stride=2, padding=3, bias=False
        )  # N x 64 x 112 x 112
        self.features.norm0 = nn.BatchNorm2d(stem_channels)
        self.features.relu0 = nn.ReLU(inplace=True)
        self.features.pool0 = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)  # N x 64 x 56 x 56
        channels = stem_channels
        # N x 256 x 56 x 56, N x 512 x 28 x 28, N x 1024 x 14 x 14, N x 1024 x 7 x 7
        for number, layers in enumerate(layers_per_block, start=1):
            block = DenseBlock(layers, channels, growth_rate, dropout)
            self.features.add_module(f"denseblock{number}", block)
            channels += layers * growth_rate
            if number < len(layers_per_block):
                self.features.add_module(f"transition{number}", Transition(channels))
                channels //= 2
        self.features.norm5 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(channels, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
            elif isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)

    def stages(self, x: Tensor) -> Stages:
        """`stem`, `stage1` to `stage4` (the dense blocks); `features` after the last norm."""
        names = {"pool0": "stem"} | {f"denseblock{n}": f"stage{n}" for n in range(1, 5)}
        for layer_name, layer in self.features.named_children():
            x = layer(x)
            if layer_name in names:
                yield names[layer_name], x
        x = self.relu(x)
        yield FEATURES, x  # N x 1024 x 7 x 7
        x = self.avgpool(x).flatten(1)
        yield PRE_LOGITS, x  # N x 1024
        yield LOGITS, self.classifier(x)  # N x num_classes


def _rename(weights: Weights) -> Weights:
    """Weights that torchvision published before 2018 have an extra dot: `norm.1` for `norm1`."""
    return {
        re.sub(r"(denselayer\d+\.(?:norm|conv))\.(\d)\.", r"\1\2.", name): tensor
        for name, tensor in weights.items()
    }


_VARIANTS = {
    "densenet121": ((6, 12, 24, 16), 32, 64),
    "densenet161": ((6, 12, 36, 24), 48, 96),
    "densenet169": ((6, 12, 32, 32), 32, 64),
    "densenet201": ((6, 12, 48, 32), 32, 64),
}
for _name, (_layers, _growth_rate, _stem_channels) in _VARIANTS.items():
    register_model(
        _name,
        input_size=224,
        minimum_input_size=32,
        learning_rate=0.05,
        rename_weights=_rename,
    )(partial(DenseNet, _layers, _growth_rate, _stem_channels))
