"""ZFNet (2013): AlexNet, improved by visualising what its layers respond to.

Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks", ECCV 2014; the network is
that of figure 3. The paper found that AlexNet's first layer, 11 x 11 with stride 4, skips middle
frequencies, and made it 7 x 7 with stride 2.

The paper normalises contrast across feature maps without giving constants; those used here are
AlexNet's (2012).
"""

from torch import Tensor, nn

from convd.models.registry import register_model
from convd.models.stages import FEATURES, StagedNetwork, Stages, run_classifier, run_layers

_LAYERS = {3: "layer1", 7: "layer2", 9: "layer3", 11: "layer4", 14: FEATURES}
"""The layers of the paper's figure 3, by the index of the last module of each."""


@register_model("zfnet", input_size=224, minimum_input_size=63, learning_rate=0.01)
class ZFNet(StagedNetwork):
    """Five convolutions and three fully connected layers.

    Args:
        num_classes: Number of classes.
        in_channels: Channels of the pictures.
        dropout: Share of the outputs of the two hidden fully connected layers that training drops.
    """

    def __init__(
        self, *, num_classes: int = 1000, in_channels: int = 3, dropout: float = 0.5
    ) -> None:
        super().__init__()
        # Shapes are those of an input of 224 x 224; `ceil_mode` gives the paper's sizes.
        self.features = nn.Sequential(
            nn.Conv2d(in_channels, 96, kernel_size=7, stride=2, padding=1),  # N x 96 x 110 x 110
            nn.ReLU(inplace=True),
            nn.MaxPool2d(kernel_size=3, stride=2, ceil_mode=True),  # N x 96 x 55 x 55
            nn.LocalResponseNorm(size=5, alpha=1e-4, beta=0.75, k=2),
            nn.Conv2d(96, 256, kernel_size=5, stride=2),  # N x 256 x 26 x 26
            nn.ReLU(inplace=True),
            nn.MaxPool2d(kernel_size=3, stride=2, ceil_mode=True),  # N x 256 x 13 x 13
            nn.LocalResponseNorm(size=5, alpha=1e-4, beta=0.75, k=2),
            nn.Conv2d(256, 384, kernel_size=3, padding=1),  # N x 384 x 13 x 13
            nn.ReLU(inplace=True),
            nn.Conv2d(384, 384, kernel_size=3, padding=1),  # N x 384 x 13 x 13
            nn.ReLU(inplace=True),
            nn.Conv2d(384, 256, kernel_size=3, padding=1),  # N x 256 x 13 x 13
            nn.ReLU(inplace=True),
            nn.MaxPool2d(kernel_size=3, stride=2),  # N x 256 x 6 x 6
        )
        # Changes nothing at 224 x 224; adapts other sizes to the classifier.
        self.avgpool = nn.AdaptiveAvgPool2d(6)
        self.classifier = nn.Sequential(
            nn.Linear(256 * 6 * 6, 4096),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(4096, 4096),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(4096, num_classes),
        )
        # The paper's constants suit long runs on many pictures. These preserve the signal's scale
        # across layers (He et al., "Delving Deep into Rectifiers", 2015), so short runs learn too.
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                assert module.bias is not None  # noqa: S101
                nn.init.zeros_(module.bias)

    def stages(self, x: Tensor) -> Stages:
        """`layer1` to `layer4`; `features` is the fifth layer."""
        for name, x in run_layers(self.features, x, _LAYERS):  # noqa: B020
            yield name, x
        x = self.avgpool(x)  # N x 256 x 6 x 6
        yield from run_classifier(self.classifier, x.flatten(1))  # N x 4096, N x num_classes
