"""AlexNet (2012), which established convolutional networks for classifying photographs.

Krizhevsky, Sutskever and Hinton, "ImageNet Classification with Deep Convolutional Neural
Networks", NeurIPS 2012.

This is torchvision's variant, so that its weights load. It follows Krizhevsky, "One Weird Trick for
Parallelizing Convolutional Neural Networks" (2014): one column of layers in place of two on two
GPUs, with 64, 192, 384, 256 and 256 kernels, and no local response normalisation.
"""

from torch import Tensor, nn

from convd.models.registry import register_model
from convd.models.stages import FEATURES, StagedNetwork, Stages, run_classifier, run_layers

_CONVOLUTIONS = {2: "conv1", 5: "conv2", 7: "conv3", 9: "conv4", 12: FEATURES}
"""The paper's convolutional layers, each with what follows it, by their last index."""


@register_model("alexnet", input_size=224, minimum_input_size=63, learning_rate=0.01)
class AlexNet(StagedNetwork):
    """Five convolutions and three fully connected layers.

    Args:
        num_classes: Number of classes.
        in_channels: Channels of the pictures.
        dropout: Share of the inputs of the two hidden fully connected layers dropped in training.
    """

    def __init__(
        self, *, num_classes: int = 1000, in_channels: int = 3, dropout: float = 0.5
    ) -> None:
        super().__init__()
        # Shapes are those of an input of 224 x 224.
        self.features = nn.Sequential(
            nn.Conv2d(in_channels, 64, kernel_size=11, stride=4, padding=2),  # N x 64 x 55 x 55
            nn.ReLU(inplace=True),
            nn.MaxPool2d(kernel_size=3, stride=2),  # N x 64 x 27 x 27
            nn.Conv2d(64, 192, kernel_size=5, padding=2),  # N x 192 x 27 x 27
            nn.ReLU(inplace=True),
            nn.MaxPool2d(kernel_size=3, stride=2),  # N x 192 x 13 x 13
            nn.Conv2d(192, 384, kernel_size=3, padding=1),  # N x 384 x 13 x 13
            nn.ReLU(inplace=True),
            nn.Conv2d(384, 256, kernel_size=3, padding=1),  # N x 256 x 13 x 13
            nn.ReLU(inplace=True),
            nn.Conv2d(256, 256, kernel_size=3, padding=1),  # N x 256 x 13 x 13
            nn.ReLU(inplace=True),
            nn.MaxPool2d(kernel_size=3, stride=2),  # N x 256 x 6 x 6
        )
        # Changes nothing at 224 x 224; adapts other sizes to the classifier.
        self.avgpool = nn.AdaptiveAvgPool2d(6)
        self.classifier = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(256 * 6 * 6, 4096),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(4096, 4096),
            nn.ReLU(inplace=True),
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
        """`conv1` to `conv4`; `features` is the fifth convolution with its pooling."""
        for name, x in run_layers(self.features, x, _CONVOLUTIONS):  # noqa: B020
            yield name, x
        x = self.avgpool(x)  # N x 256 x 6 x 6
        yield from run_classifier(self.classifier, x.flatten(1))  # N x 4096, N x num_classes
