"""A real S3 server on loopback, which can be stopped and started again with what it holds."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer

from convd.artifact.object_storage import ObjectStorage
from convd.artifact.remote_repository import RemoteRepository
from tests.support import free_ports

BUCKET = "models"


class StorageServer:
    """An S3 server; its objects outlive a stop."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.url = f"s3://{BUCKET}/served"
        self._server = ThreadedMotoServer("127.0.0.1", port, verbose=False)
        self._server.start()

    def stop(self) -> None:
        """Answer nobody."""
        self._server.stop()

    def start(self) -> None:
        """Answer again."""
        self._server = ThreadedMotoServer("127.0.0.1", self.port, verbose=False)
        self._server.start()

    def storage(self) -> ObjectStorage:
        """What the server holds."""
        return ObjectStorage(self.url)

    def publish(self, artifact: Path, name: str = "pets") -> int:
        """Publish a copy of an artifact."""
        return RemoteRepository(self.storage()).publish(name, artifact)


@contextlib.contextmanager
def storage_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[StorageServer]:
    """Run a server with an empty bucket, and point this process and its children at it."""
    (port,) = free_ports(1)
    for variable, value in {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(variable, value)
    server = StorageServer(port)
    try:
        client = boto3.client("s3")
        client.create_bucket(Bucket=BUCKET)
        yield server
        # moto keeps its objects in this process.
        boto3.resource("s3").Bucket(BUCKET).objects.all().delete()
        client.delete_bucket(Bucket=BUCKET)
    finally:
        server.stop()
