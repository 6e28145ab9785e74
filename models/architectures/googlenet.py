"""GoogLeNet (2014): modules that see several scales at once.

Szegedy, Liu, Jia, Sermanet, Reed, Anguelov, Erhan, Vanhoucke and Rabinovich, "Going Deeper with
Convolutions", CVPR 2015; layer names follow its table 1.

This is torchvision's variant, so that its weights load. It differs from the paper: every
convolution is followed by batch normalisation (and has no bias), local response normalisation is
left out, the branch that the paper makes 5 x 5 is 3 x 3, and the fourth pooling is 2 x 2.
The weights that torchvision published were trained on pixels normalised with mean 0.5 and standard
deviation 0.5 in each channel.
"""

import torch
from torch import Tensor, nn

from convd.models.registry import Options, Weights, register_model
from convd.models.stages import FEATURES, LOGITS, PRE_LOGITS, StagedNetwork, Stages


class BasicConv2d(nn.Module):
    """Convolution, batch normalisation, ReLU.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        kernel_size: Height and width of the kernel.
        stride: Distance between two outputs.
        padding: Zeros around the input.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel_size: int,
        stride: int = 1,
        padding: int = 0,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels, out_channels, kernel_size, stride=stride, padding=padding, bias=False
        )
        self.bn = nn.BatchNorm2d(out_channels, eps=0.001)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Transform `[batch, in_channels, height, width]`."""
        activated: Tensor = self.relu(self.bn(self.conv(x)))
        return activated


class Inception(nn.Module):
    """Four branches over the same input, concatenated in the output.

    Args:
        in_channels: Channels of the input.
        one: Channels of the 1 x 1 branch.
        three_reduce: Channels to which the 3 x 3 branch first reduces its input.
        three: Channels of the 3 x 3 branch.
        five_reduce: Channels to which the branch that is 5 x 5 in the paper first reduces.
        five: Channels of that branch.
        pool: Channels of the branch that pools first.
    """

    def __init__(
        self,
        in_channels: int,
        one: int,
        three_reduce: int,
        three: int,
        five_reduce: int,
        five: int,
        pool: int,
    ) -> None:
        super().__init__()
        self.branch1 = BasicConv2d(in_channels, one, kernel_size=1)
        self.branch2 = nn.Sequential(
            BasicConv2d(in_channels, three_reduce, kernel_size=1),
            BasicConv2d(three_reduce, three, kernel_size=3, padding=1),
        )
        self.branch3 = nn.Sequential(
            BasicConv2d(in_channels, five_reduce, kernel_size=1),
            BasicConv2d(five_reduce, five, kernel_size=3, padding=1),
        )
        self.branch4 = nn.Sequential(
            nn.MaxPool2d(kernel_size=3, stride=1, padding=1),
            BasicConv2d(in_channels, pool, kernel_size=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """From `[batch, in_channels, h, w]` to `[batch, one + three + five + pool, h, w]`."""
        branches = (self.branch1, self.branch2, self.branch3, self.branch4)
        return torch.cat([branch(x) for branch in branches], dim=1)


class AuxiliaryClassifier(nn.Module):
    """An intermediate classifier that gives early layers a gradient of their own.

    Args:
        in_channels: Channels of the feature map that it looks at.
        num_classes: Number of classes.
    """

    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(4)
        self.conv = BasicConv2d(in_channels, 128, kernel_size=1)
        self.fc1 = nn.Linear(128 * 4 * 4, 1024)
        self.relu = nn.ReLU(inplace=True)
        self.dropout = nn.Dropout(0.7)
        self.fc2 = nn.Linear(1024, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits `[batch, num_classes]` of feature maps `[batch, in_channels, h, w]`."""
        x = self.pool(x)  # N x in_channels x 4 x 4
        x = self.conv(x)  # N x 128 x 4 x 4
        x = x.flatten(1)  # N x 2048
        x = self.relu(self.fc1(x))  # N x 1024
        logits: Tensor = self.fc2(self.dropout(x))  # N x num_classes
        return logits


def _options(weights: Weights) -> Options:
    return {"auxiliary_classifiers": any(name.startswith("aux1.") for name in weights)}


@register_model(
    "googlenet",
    input_size=224,
    minimum_input_size=32,
    learning_rate=0.01,
    options_of_weights=_options,
)
class GoogLeNet(StagedNetwork):
    """Nine inception modules between a stem and one linear layer.

    Args:
        num_classes: Number of classes.
        in_channels: Channels of the pictures.
        dropout: Share of the pre-logits that training drops.
        auxiliary_classifiers: Whether it has the two classifiers that only training listens to.
    """

    def __init__(
        self,
        *,
        num_classes: int = 1000,
        in_channels: int = 3,
        dropout: float = 0.2,
        auxiliary_classifiers: bool = True,
    ) -> None:
        super().__init__()
        self.conv1 = BasicConv2d(in_channels, 64, kernel_size=7, stride=2, padding=3)
        self.maxpool1 = nn.MaxPool2d(kernel_size=3, stride=2, ceil_mode=True)
        self.conv2 = BasicConv2d(64, 64, kernel_size=1)
        self.conv3 = BasicConv2d(64, 192, kernel_size=3, padding=1)
        self.maxpool2 = nn.MaxPool2d(kernel_size=3, stride=2, ceil_mode=True)
        self.inception3a = Inception(192, 64, 96, 128, 16, 32, 32)
        self.inception3b = Inception(256, 128, 128, 192, 32, 96, 64)
        self.maxpool3 = nn.MaxPool2d(kernel_size=3, stride=2, ceil_mode=True)
        self.inception4a = Inception(480, 192, 96, 208, 16, 48, 64)
        self.inception4b = Inception(512, 160, 112, 224, 24, 64, 64)
        self.inception4c = Inception(512, 128, 128, 256, 24, 64, 64)
        self.inception4d = Inception(512, 112, 144, 288, 32, 64, 64)
        self.inception4e = Inception(528, 256, 160, 320, 32, 128, 128)
        self.maxpool4 = nn.MaxPool2d(kernel_size=2, stride=2, ceil_mode=True)
        self.inception5a = Inception(832, 256, 160, 320, 32, 128, 128)
        self.inception5b = Inception(832, 384, 192, 384, 48, 128, 128)
        self.aux1 = AuxiliaryClassifier(512, num_classes) if auxiliary_classifiers else None
        self.aux2 = AuxiliaryClassifier(528, num_classes) if auxiliary_classifiers else None
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(1024, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward_with_auxiliaries(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Logits, and those of both auxiliary classifiers if the network has them."""
        found = self.intermediates(x)
        if self.aux1 is None or self.aux2 is None:
            return found[LOGITS], []
        early, late = found["inception4a"], found["inception4d"]
        return found[LOGITS], [self.aux1(early), self.aux2(late)]

    def stages(self, x: Tensor) -> Stages:
        """`stem`, `inception3a` to `inception5a`; `features` is `inception5b`."""
        # Shapes are those of an input of 224 x 224.
        x = self.conv1(x)  # N x 64 x 112 x 112
        x = self.maxpool1(x)  # N x 64 x 56 x 56
        x = self.conv2(x)  # N x 64 x 56 x 56
        x = self.conv3(x)  # N x 192 x 56 x 56
        x = self.maxpool2(x)
        yield "stem", x  # N x 192 x 28 x 28
        x = self.inception3a(x)
        yield "inception3a", x  # N x 256 x 28 x 28
        x = self.inception3b(x)
        yield "inception3b", x  # N x 480 x 28 x 28
        x = self.maxpool3(x)  # N x 480 x 14 x 14
        x = self.inception4a(x)
        yield "inception4a", x  # N x 512 x 14 x 14
        x = self.inception4b(x)
        yield "inception4b", x  # N x 512 x 14 x 14
        x = self.inception4c(x)
        yield "inception4c", x  # N x 512 x 14 x 14
        x = self.inception4d(x)
        yield "inception4d", x  # N x 528 x 14 x 14
        x = self.inception4e(x)
        yield "inception4e", x  # N x 832 x 14 x 14
        x = self.maxpool4(x)  # N x 832 x 7 x 7
        x = self.inception5a(x)
        yield "inception5a", x  # N x 832 x 7 x 7
        x = self.inception5b(x)
        yield FEATURES, x  # N x 1024 x 7 x 7
        x = self.avgpool(x).flatten(1)
        yield PRE_LOGITS, x  # N x 1024
        yield LOGITS, self.fc(self.dropout(x))  # N x num_classes
