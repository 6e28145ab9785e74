"""Networks whose intermediate results have names."""

from abc import abstractmethod
from collections.abc import Iterator, Mapping

from torch import Tensor, nn

FEATURES = "features"
PRE_LOGITS = "pre_logits"
LOGITS = "logits"

Stages = Iterator[tuple[str, Tensor]]
"""Names and values in the order in which a network computes them."""


class StagedNetwork(nn.Module):
    """A network that is written down once, as the sequence of its named stages.

    Each architecture names its stages as its paper does. All end with the same three: `features`,
    the last feature maps `[batch, channels, height, width]`; `pre_logits`, the vector that the last
    layer takes, `[batch, length]`; and `logits`, `[batch, num_classes]`.
    """

    @abstractmethod
    def stages(self, x: Tensor) -> Stages:
        """Compute pictures `[batch, in_channels, height, width]`, stage by stage."""

    def intermediates(self, x: Tensor) -> dict[str, Tensor]:
        """All stages of pictures `[batch, in_channels, height, width]`, by name, in order."""
        return dict(self.stages(x))

    def forward(self, x: Tensor) -> Tensor:
        """Logits `[batch, num_classes]` of pictures `[batch, in_channels, height, width]`."""
        value = x
        for _, value in self.stages(x):  # noqa: B007
            pass
        return value


def run_layers(layers: nn.Sequential, x: Tensor, names: Mapping[int, str]) -> Stages:
    """Run layers in order, and name what some of them give.

    Args:
        layers: The layers.
        x: What the first of them takes.
        names: The name of a layer's output, by the layer's index; the last layer has one.
    """
    for index, layer in enumerate(layers):
        x = layer(x)
        if index in names:
            yield names[index], x


def run_classifier(classifier: nn.Sequential, x: Tensor) -> Stages:
    """Run fully connected layers, the last of which gives the logits.

    Args:
        classifier: The layers.
        x: `[batch, length]`.
    """
    *hidden, last = classifier
    for layer in hidden:
        x = layer(x)
    yield PRE_LOGITS, x
    yield LOGITS, last(x)
