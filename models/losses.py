"""The losses that training minimises."""

from typing import Literal, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

LossName = Literal["cross-entropy", "squared-error"]

AUXILIARY_WEIGHT = 0.3
"""Weight of an auxiliary classifier's loss (Szegedy et al., "Going Deeper with Convolutions")."""


class NetworkLoss(NamedTuple):
    """The losses of a batch.

    Attributes:
        total: Scalar that training minimises: the losses of all classifiers.
        main: Scalar loss of the classifier that answers.
        logits: Logits of that classifier, `[batch, classes]`.
    """

    total: Tensor
    main: Tensor
    logits: Tensor


@runtime_checkable
class HasAuxiliaryClassifiers(Protocol):
    """A network with intermediate classifiers that only training uses."""

    def forward_with_auxiliaries(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Logits, and the logits of every auxiliary classifier, each `[batch, num_classes]`."""
        ...


def classification_loss(
    logits: Tensor, targets: Tensor, *, loss: LossName, label_smoothing: float
) -> Tensor:
    """Mean loss of a batch.

    Args:
        logits: float32 `[batch, classes]`.
        targets: int64 `[batch]`.
        loss: `cross-entropy`, or `squared-error`: half the squared distance between the
            probabilities and the target distribution, summed over the classes.
        label_smoothing: Share of the target's probability that is spread over all classes.

    Returns:
        A scalar.
    """
    if loss == "cross-entropy":
        return F.cross_entropy(logits, targets, label_smoothing=label_smoothing)
    classes = logits.shape[1]
    wanted = F.one_hot(targets, classes) * (1 - label_smoothing) + label_smoothing / classes
    return 0.5 * (wanted - logits.softmax(dim=1)).square().sum(dim=1).mean()


def chance_loss(classes: int, *, loss: LossName, label_smoothing: float) -> float:
    """Loss of a network that finds every class equally likely; ln(classes) with cross-entropy."""
    logits, targets = torch.zeros(1, classes), torch.zeros(1, dtype=torch.int64)
    return classification_loss(logits, targets, loss=loss, label_smoothing=label_smoothing).item()


def network_loss(
    network: nn.Module, x: Tensor, targets: Tensor, *, loss: LossName, label_smoothing: float
) -> NetworkLoss:
    """Run a network in train mode and add up the losses of all its classifiers.

    Args:
        network: The network, in train mode.
        x: float32 `[batch, channels, height, width]`.
        targets: int64 `[batch]`.
        loss: See `classification_loss`.
        label_smoothing: See `classification_loss`.
    """
    auxiliaries: list[Tensor] = []
    if isinstance(network, HasAuxiliaryClassifiers):
        logits, auxiliaries = network.forward_with_auxiliaries(x)
    else:
        logits = network(x)

    def one(each: Tensor) -> Tensor:
        return classification_loss(
            each.float(), targets, loss=loss, label_smoothing=label_smoothing
        )

    total = main = one(logits)
    for each in auxiliaries:
        total = total + AUXILIARY_WEIGHT * one(each)
    return NetworkLoss(total, main, logits)
