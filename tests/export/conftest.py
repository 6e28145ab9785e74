"""A LeNet-5 as `convd train` leaves it, and as `convd export` publishes it."""

from pathlib import Path

import pytest
import torch

from convd.artifact.repository import ModelRepository
from convd.export.publication import publish
from convd.export.source import TrainedNetwork
from convd.export.sources.checkpoint import network_from_checkpoint
from tests.export.checkpoints import save_untrained_lenet


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LeNet-5 for digits with seeded random weights: nothing here depends on how good it is."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("checkpoint")
    save_untrained_lenet(path)
    return path


@pytest.fixture(scope="session")
def trained(checkpoint: Path) -> TrainedNetwork:
    return network_from_checkpoint(checkpoint)


@pytest.fixture(scope="session")
def published(trained: TrainedNetwork, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One verified artifact; copy it, never change it."""
    repository = ModelRepository(tmp_path_factory.mktemp("published"))
    return publish(trained, repository, "digits").path
