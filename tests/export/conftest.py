"""A LeNet-5 as `convd train` leaves it, and as `convd export` publishes it."""

from pathlib import Path

import pytest
import torch

from convd.artifact.manifest import Normalization
from convd.artifact.repository import ModelRepository
from convd.export.publication import publish
from convd.export.source import TrainedNetwork
from convd.export.sources.checkpoint import network_from_checkpoint
from convd.models import create_model
from convd.models.checkpoint import CheckpointDescription, save_checkpoint
from convd.models.data import load_dataset


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LeNet-5 for digits with seeded random weights: nothing here depends on how good it is."""
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
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("checkpoint")
    save_checkpoint(path, create_model("lenet5", num_classes=10, in_channels=1), description)
    return path


@pytest.fixture(scope="session")
def trained(checkpoint: Path) -> TrainedNetwork:
    return network_from_checkpoint(checkpoint)


@pytest.fixture(scope="session")
def published(trained: TrainedNetwork, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One verified artifact; copy it, never change it."""
    repository = ModelRepository(tmp_path_factory.mktemp("published"))
    return publish(trained, repository, "digits").path
