"""What the tests of every room share; none of it needs a training framework."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.digits import Digits, publish_digits
from tests.support import Client, running_server

# OpenMP's threads spin while they wait for each other. On a busy machine that takes the cores from
# other tests, and a test with two threads takes ten times as long. Torch reads this when imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# How long an example takes says more about the machine's other work than about the code, so no
# profile has a deadline. The gate derives its examples from the test: same code, same answer.
settings.register_profile("gate", deadline=None, derandomize=True)
# `make search` tries new examples in every run. Tests that want more or fewer examples than others
# scale `settings.default.max_examples`, so that they follow the profile.
settings.register_profile(
    "search",
    deadline=None,
    max_examples=6_000,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)
settings.load_profile("gate")


@pytest.fixture(scope="session")
def digits() -> Digits:
    """Pictures for the model `digits`."""
    return Digits()


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One artifact, made without a training framework; copy it, never change it."""
    return publish_digits(tmp_path_factory.mktemp("published"))


@pytest.fixture
def repository(published: Path, tmp_path: Path) -> Path:
    """A repository of the test's own, with the model `digits`, version 1."""
    root = tmp_path / "repository"
    shutil.copytree(published, root / "digits" / "1")
    return root


@pytest.fixture(scope="module")
def client(published: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A client of a server that the tests of a module share."""
    root = tmp_path_factory.mktemp("shared")
    shutil.copytree(published, root / "digits" / "1")
    with running_server(root) as client:
        yield client
