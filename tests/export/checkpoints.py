"""Checkpoints as `convd train` writes them."""

from pathlib import Path

from torch import nn

from convd.artifact.manifest import Normalization
from convd.models import create_model
from convd.models.checkpoint import CheckpointDescription, save_checkpoint
from convd.models.data import load_dataset


def save_untrained_lenet(path: Path) -> nn.Module:
    """Save a LeNet-5 for digits with random weights."""
    splits = load_dataset("digits")
    description = CheckpointDescription(
        architecture="lenet5",
        num_classes=10,
        in_channels=1,
        labels=splits.labels,
        preprocessing=splits.preprocessing(32),
        normalization=Normalization(mean=(0.3,), std=(0.35,)),
        data="digits",
    )
    network = create_model("lenet5", num_classes=10, in_channels=1)
    save_checkpoint(path, network, description)
    return network
