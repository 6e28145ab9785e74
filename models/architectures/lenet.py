"""LeNet-5 (1998), the first convolutional network in wide use.

LeCun, Bottou, Bengio and Haffner, "Gradient-Based Learning Applied to Document Recognition",
Proceedings of the IEEE 86(11).
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from convd.models.errors import ArchitectureOptionError
from convd.models.registry import register_model
from convd.models.stages import FEATURES, LOGITS, PRE_LOGITS, StagedNetwork, Stages


class ScaledTanh(nn.Module):
    """The paper's squashing function, 1.7159 tanh(2x/3): about 1 at 1 and -1 at -1."""

    def forward(self, x: Tensor) -> Tensor:
        """Apply it to every element."""
        return 1.7159 * torch.tanh(x * (2 / 3))


class SumPool2d(nn.Module):
    """The sum, not the mean, of every window.

    Args:
        kernel_size: Height and width of a window, and the distance between two.
    """

    def __init__(self, kernel_size: int) -> None:
        super().__init__()
        self.kernel_size = kernel_size

    def forward(self, x: Tensor) -> Tensor:
        """Pool `[batch, channels, height, width]`."""
        return F.avg_pool2d(x, self.kernel_size) * self.kernel_size**2


POOLINGS: dict[str, Callable[[int], nn.Module]] = {
    "max": nn.MaxPool2d,
    "average": nn.AvgPool2d,
    "sum": SumPool2d,
}
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {"relu": nn.ReLU, "tanh": ScaledTanh}


@register_model(
    "lenet5",
    aliases=("lenet",),
    input_size=32,
    minimum_input_size=32,
    maximum_input_size=32,
    learning_rate=0.05,
)
class LeNet5(StagedNetwork):
    """Three convolutions, two poolings between them, two fully connected layers.

    Layer names are the paper's. As in most implementations since, every map of C3 sees every map
    of S2 (the paper connects some of them only), S2 and S4 have no trained coefficients, and the
    output is a linear layer in place of the radial basis functions.

    Args:
        num_classes: Number of classes.
        in_channels: Channels of the pictures; the paper has 1.
        pooling: `max`, `average` or `sum`; the paper sums.
        activation: `relu`, or `tanh` as in the paper.

    Raises:
        ArchitectureOptionError: There is no such pooling or activation.
    """

    def __init__(
        self,
        *,
        num_classes: int = 1000,
        in_channels: int = 3,
        pooling: str = "max",
        activation: str = "relu",
    ) -> None:
        super().__init__()
        if pooling not in POOLINGS:
            raise ArchitectureOptionError(
                f"lenet5 has no pooling {pooling!r}: choose one of {', '.join(POOLINGS)}"
            )
        if activation not in ACTIVATIONS:
            raise ArchitectureOptionError(
                f"lenet5 has no activation {activation!r}: choose one of {', '.join(ACTIVATIONS)}"
            )
        self.c1 = nn.Conv2d(in_channels, 6, kernel_size=5)
        self.s2 = POOLINGS[pooling](2)
        self.c3 = nn.Conv2d(6, 16, kernel_size=5)
        self.s4 = POOLINGS[pooling](2)
        self.c5 = nn.Conv2d(16, 120, kernel_size=5)
        self.f6 = nn.Linear(120, 84)
        self.output = nn.Linear(84, num_classes)
        self.activation = ACTIVATIONS[activation]()

    def stages(self, x: Tensor) -> Stages:
        """`c1`, `s2`, `c3`, `s4`, as in the paper; `features` is its C5, `pre_logits` its F6."""
        x = self.activation(self.c1(x))
        yield "c1", x  # N x 6 x 28 x 28
        x = self.s2(x)
        yield "s2", x  # N x 6 x 14 x 14
        x = self.activation(self.c3(x))
        yield "c3", x  # N x 16 x 10 x 10
        x = self.s4(x)
        yield "s4", x  # N x 16 x 5 x 5
        x = self.activation(self.c5(x))
        yield FEATURES, x  # N x 120 x 1 x 1
        x = self.activation(self.f6(x.flatten(1)))
        yield PRE_LOGITS, x  # N x 84
        yield LOGITS, self.output(x)  # N x num_classes
