from collections.abc import Iterator
from pathlib import Path

import pytest

from convd.protos.inference.grpc_service_pb2_grpc import GRPCInferenceServiceStub
from tests.support import Client, running_server
from tests.tiny_artifact import publish_tiny


@pytest.fixture(scope="module")
def pets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with version 1 of `pets`."""
    root = tmp_path_factory.mktemp("repository")
    publish_tiny(root)
    return root


@pytest.fixture(scope="module")
def server(pets: Path) -> Iterator[Client]:
    """A server of that repository, as it is without settings."""
    with running_server(pets) as client:
        yield client


@pytest.fixture
def stub(server: Client) -> GRPCInferenceServiceStub:
    return GRPCInferenceServiceStub(server.channel)
