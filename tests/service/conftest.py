"""What tests of access and of encryption share."""

import shutil
from pathlib import Path

import pytest

from testbed.authorities import Authority


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """An authority whose certificates every client of the module trusts."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def models(published: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with `digits`, version 1, for all tests of a module: never change it."""
    root = tmp_path_factory.mktemp("models")
    shutil.copytree(published, root / "digits" / "1")
    return root
