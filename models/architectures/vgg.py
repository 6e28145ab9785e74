"""VGG (2014): nothing but 3 x 3 convolutions, and more of them.

Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", ICLR
2015; 11, 13, 16 and 19 are the paper's configurations A, B, D and E.

Parameter names are torchvision's, so that its weights load. The variants with batch normalisation
(`_bn`) are later than the paper; they train without the paper's staged initialisation.
"""

from collections.abc import Iterator
from functools import partial

from torch import Tensor, nn

from convd.models.registry import Weights, register_model
from convd.models.stages import FEATURES, StagedNetwork, Stages, run_classifier, run_layers

CONVOLUTIONS_PER_STAGE = {
    "vgg11": (1, 1, 2, 2, 2),
    "vgg13": (2, 2, 2, 2, 2),
    "vgg16": (2, 2, 3, 3, 3),
    "vgg19": (2, 2, 4, 4, 4),
}
STAGE_CHANNELS = (64, 128, 256, 512, 512)


class VGG(StagedNetwork):
    """Five stages of 3 x 3 convolutions with poolings, and three fully connected layers.

    Args:
        convolutions_per_stage: Convolutions in each of the five stages.
        batch_norm: Whether each convolution is followed by batch normalisation.
        num_classes: Number of classes.
        in_channels: Channels of the pictures.
        dropout: Share of the outputs of the two hidden fully connected layers dropped in training.
    """

    def __init__(
        self,
        convolutions_per_stage: tuple[int, ...],
        batch_norm: bool,
        /,
        *,
        num_classes: int = 1000,
        in_channels: int = 3,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *_layers(convolutions_per_stage, batch_norm=batch_norm, in_channels=in_channels)
        )
        # Changes nothing at 224 x 224; adapts other sizes to the classifier.
        self.avgpool = nn.AdaptiveAvgPool2d(7)
        self.classifier = nn.Sequential(
            nn.Linear(512 * 7 * 7, 4096),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(4096, 4096),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(4096, num_classes),
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.01)
                nn.init.zeros_(module.bias)

    def stages(self, x: Tensor) -> Stages:
        """`stage1` to `stage4`, each with its pooling; `features` is the fifth stage."""
        # From N x in_channels x 224 x 224, the five stages give 64 x 112, 128 x 56, 256 x 28,
        # 512 x 14 and 512 x 7.
        ends = [i for i, layer in enumerate(self.features) if isinstance(layer, nn.MaxPool2d)]
        names = {end: f"stage{number}" for number, end in enumerate(ends, start=1)}
        for name, x in run_layers(self.features, x, names | {ends[-1]: FEATURES}):  # noqa: B020
            yield name, x
        x = self.avgpool(x)  # N x 512 x 7 x 7
        yield from run_classifier(self.classifier, x.flatten(1))  # N x 4096, N x num_classes


def _layers(
    convolutions_per_stage: tuple[int, ...], *, batch_norm: bool, in_channels: int
) -> Iterator[nn.Module]:
    for convolutions, channels in zip(convolutions_per_stage, STAGE_CHANNELS, strict=True):
        for _ in range(convolutions):
            yield nn.Conv2d(in_channels, channels, kernel_size=3, padding=1)
            if batch_norm:
                yield nn.BatchNorm2d(channels)
            yield nn.ReLU(inplace=True)
            in_channels = channels
        yield nn.MaxPool2d(kernel_size=2, stride=2)


def _rename(weights: Weights) -> Weights:
    """Rename timm's weights: its fully connected layers are convolutions with other names."""
    names = {"pre_logits.fc1": "classifier.0", "pre_logits.fc2": "classifier.3"}
    renamed = {}
    for name, tensor in weights.items():
        layer, _, kind = name.rpartition(".")
        if layer in names:
            renamed[f"{names[layer]}.{kind}"] = tensor.flatten(1) if kind == "weight" else tensor
        elif layer == "head.fc":
            renamed[f"classifier.6.{kind}"] = tensor
        else:
            renamed[name] = tensor
    return renamed


for _name, _convolutions in CONVOLUTIONS_PER_STAGE.items():
    for _suffix, _batch_norm in (("", False), ("_bn", True)):
        register_model(
            _name + _suffix,
            input_size=224,
            minimum_input_size=32,
            learning_rate=0.02 if _batch_norm else 0.01,
            rename_weights=_rename,
        )(partial(VGG, _convolutions, _batch_norm))
