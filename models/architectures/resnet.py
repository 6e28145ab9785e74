"""ResNet (2015): layers that learn a residual to add to their input.

He, Zhang, Ren and Sun, "Deep Residual Learning for Image Recognition", CVPR 2016; depths are those
of its table 1.

This is torchvision's variant, so that its weights load. In the deeper networks the stride of a
bottleneck is in its 3 x 3 convolution, where the paper has it in the first 1 x 1; the change is
known as ResNet v1.5. Shortcuts that change shape are projections (the paper's option B).
"""

import re
from functools import partial

from torch import Tensor, nn

from convd.models.registry import Weights, register_model
from convd.models.stages import FEATURES, LOGITS, PRE_LOGITS, StagedNetwork, Stages


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions and a shortcut around them, for ResNet-18 and 34.

    Args:
        in_channels: Channels of the input.
        channels: Channels of the block, and of its output.
        stride: 2 if the block halves height and width, otherwise 1.
    """

    expansion = 1

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = _convolution(in_channels, channels, kernel_size=3, stride=stride)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = _convolution(channels, channels, kernel_size=3)
        self.bn2 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _projection(in_channels, channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        """From `[batch, in_channels, h, w]` to `[batch, channels, h / stride, w / stride]`."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.bn2(self.conv2(x))
        added: Tensor = self.relu(x + shortcut)
        return added


class Bottleneck(nn.Module):
    """A 3 x 3 convolution between two 1 x 1 ones, and a shortcut, for ResNet-50 and deeper.

    Args:
        in_channels: Channels of the input.
        channels: Channels of the block; its output has four times as many.
        stride: 2 if the block halves height and width, otherwise 1.
    """

    expansion = 4

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = _convolution(in_channels, channels, kernel_size=1)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = _convolution(channels, channels, kernel_size=3, stride=stride)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = _convolution(channels, channels * self.expansion, kernel_size=1)
        self.bn3 = nn.BatchNorm2d(channels * self.expansion)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _projection(in_channels, channels * self.expansion, stride)

    def forward(self, x: Tensor) -> Tensor:
        """From `[batch, in_channels, h, w]` to `[batch, 4 * channels, h / stride, w / stride]`."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        x = self.bn3(self.conv3(x))
        added: Tensor = self.relu(x + shortcut)
        return added


class ResNet(StagedNetwork):
    """A stem, four stages of residual blocks, and one linear layer.

    Args:
        block: Kind of block.
        blocks_per_stage: Blocks in each of the four stages.
        num_classes: Number of classes.
        in_channels: Channels of the pictures.
    """

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        blocks_per_stage: tuple[int, int, int, int],
        /,
        *,
        num_classes: int = 1000,
        in_channels: int = 3,
    ) -> None:
        super().__init__()
        self.conv1 = _convolution(in_channels, 64, kernel_size=7, stride=2)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        first, second, third, fourth = blocks_per_stage
        wide = block.expansion
        self.layer1 = _stage(block, first, 64, channels=64, stride=1)
        self.layer2 = _stage(block, second, 64 * wide, channels=128, stride=2)
        self.layer3 = _stage(block, third, 128 * wide, channels=256, stride=2)
        self.layer4 = _stage(block, fourth, 256 * wide, channels=512, stride=2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(512 * wide, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def stages(self, x: Tensor) -> Stages:
        """`stem`, `stage1` to `stage3` (the paper's conv2_x to conv4_x); `features` is conv5_x."""
        # Shapes are those of an input of 224 x 224; E is 1 for basic blocks, 4 for bottlenecks.
        x = self.relu(self.bn1(self.conv1(x)))  # N x 64 x 112 x 112
        x = self.maxpool(x)
        yield "stem", x  # N x 64 x 56 x 56
        x = self.layer1(x)
        yield "stage1", x  # N x 64E x 56 x 56
        x = self.layer2(x)
        yield "stage2", x  # N x 128E x 28 x 28
        x = self.layer3(x)
        yield "stage3", x  # N x 256E x 14 x 14
        x = self.layer4(x)
        yield FEATURES, x  # N x 512E x 7 x 7
        x = self.avgpool(x).flatten(1)
        yield PRE_LOGITS, x  # N x 512E
        yield LOGITS, self.fc(x)  # N x num_classes


def _stage(
    block: type[BasicBlock] | type[Bottleneck],
    blocks: int,
    in_channels: int,
    *,
    channels: int,
    stride: int,
) -> nn.Sequential:
    out_channels = channels * block.expansion
    first = block(in_channels, channels, stride)
    return nn.Sequential(first, *(block(out_channels, channels, 1) for _ in range(blocks - 1)))


def _projection(in_channels: int, out_channels: int, stride: int) -> nn.Sequential | None:
    if stride == 1 and in_channels == out_channels:
        return None
    return nn.Sequential(
        _convolution(in_channels, out_channels, kernel_size=1, stride=stride),
        nn.BatchNorm2d(out_channels),
    )


def _convolution(
    in_channels: int, out_channels: int, *, kernel_size: int, stride: int = 1
) -> nn.Conv2d:
    """A padded convolution without a bias, which the batch normalisation after it provides."""
    padding = kernel_size // 2
    return nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, bias=False)


_TRANSFORMERS_LAYER = re.compile(
    r"(?:resnet\.)?encoder\.stages\.(?P<stage>\d+)\.layers\.(?P<block>\d+)\."
    r"(?:layer\.(?P<layer>\d+)|shortcut)\.(?P<kind>convolution|normalization)\.(?P<tensor>\w+)"
)
_TRANSFORMERS_STEM = re.compile(
    r"(?:resnet\.)?embedder\.embedder\.(?P<kind>convolution|normalization)\.(?P<tensor>\w+)"
)


def _rename(weights: Weights) -> Weights:
    """Rename the weights of transformers' ResNet, which is the same network."""
    if not any(_TRANSFORMERS_STEM.fullmatch(name) for name in weights):
        return weights
    return {_own_name(name): tensor for name, tensor in weights.items()}


def _own_name(name: str) -> str:
    found = _TRANSFORMERS_STEM.fullmatch(name)
    if found:
        return f"{'conv1' if found['kind'] == 'convolution' else 'bn1'}.{found['tensor']}"
    found = _TRANSFORMERS_LAYER.fullmatch(name)
    if found is None:
        return name.replace("classifier.1.", "fc.")
    is_convolution = found["kind"] == "convolution"
    if found["layer"] is None:
        layer = f"downsample.{0 if is_convolution else 1}"
    else:
        layer = f"{'conv' if is_convolution else 'bn'}{int(found['layer']) + 1}"
    return f"layer{int(found['stage']) + 1}.{found['block']}.{layer}.{found['tensor']}"


_VARIANTS: dict[str, tuple[type[BasicBlock] | type[Bottleneck], tuple[int, int, int, int]]] = {
    "resnet18": (BasicBlock, (2, 2, 2, 2)),
    "resnet34": (BasicBlock, (3, 4, 6, 3)),
    "resnet50": (Bottleneck, (3, 4, 6, 3)),
    "resnet101": (Bottleneck, (3, 4, 23, 3)),
    "resnet152": (Bottleneck, (3, 8, 36, 3)),
}
for _name, (_block, _blocks) in _VARIANTS.items():
    register_model(
        _name,
        input_size=224,
        minimum_input_size=32,
        # Half of the paper's, which has 0.1 for batches of 256: it also holds for small folders.
        learning_rate=0.0125,
        rename_weights=_rename,
    )(partial(ResNet, _block, _blocks))
