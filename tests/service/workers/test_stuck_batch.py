"""A batch that never ends: a worker is replaced, and one process says that it has to be ended."""

import contextlib
import threading
from pathlib import Path

import grpc
import pytest
from PIL import Image

from convd.protos.convd.v1 import classification_pb2 as pb
from convd.protos.convd.v1.classification_pb2_grpc import ClassificationServiceStub
from testbed.server import ServerProcess, http_get, server_process
from tests.service.hostile_networks import loop_on_white
from tests.support import png, wait_until
from tests.tiny_artifact import HEIGHT, WIDTH, publish_tiny

pytestmark = pytest.mark.slow

WHITE = png(Image.new("RGB", (WIDTH, HEIGHT), "white"))
GREY = png(Image.new("RGB", (WIDTH, HEIGHT), "grey"))


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    publish_tiny(tmp_path / "repository")
    loop_on_white(tmp_path / "repository" / "pets" / "1")
    return tmp_path / "repository"


def classify(server: ServerProcess, picture: bytes, timeout_seconds: float) -> None:
    request = pb.ClassifyRequest(
        model=pb.ModelSpec(name="pets"), images=[pb.Image(encoded=picture)]
    )
    options = [("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel(server.address, options=options) as channel:
        ClassificationServiceStub(channel).Classify(request, timeout=timeout_seconds)


def hang(server: ServerProcess) -> threading.Thread:
    def call() -> None:
        with contextlib.suppress(grpc.RpcError):
            classify(server, WHITE, 60.0)

    thread = threading.Thread(target=call)
    thread.start()
    return thread


def test_a_worker_whose_batch_never_ends_is_replaced(repository: Path, tmp_path: Path) -> None:
    flags = ("--workers", 2, "--batch-timeout-seconds", 2, "--drain-seconds", 2)
    with server_process(repository, tmp_path / "log", *flags) as server:
        thread = hang(server)
        wait_until(lambda: "a batch of pets version 1 has been running" in server.log.read_text())
        thread.join()
        wait_until(lambda: "convd_worker_restarts_total 1.0" in server.metrics())
        wait_until(lambda: http_get(server.http_port, "/readyz")[0] == 200)
        for _ in range(8):
            classify(server, GREY, 20.0)
        assert server.terminate() == 0


def test_one_process_fails_its_liveness_and_can_be_ended(repository: Path, tmp_path: Path) -> None:
    flags = ("--batch-timeout-seconds", 2, "--drain-seconds", 2)
    with server_process(repository, tmp_path / "log", *flags) as server:
        assert http_get(server.http_port, "/livez") == (200, "live\n")
        thread = hang(server)
        wait_until(lambda: http_get(server.http_port, "/livez")[0] == 503)
        assert "a batch of pets version 1" in http_get(server.http_port, "/livez")[1]
        assert server.terminate() == 3
        thread.join()
