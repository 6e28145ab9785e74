"""SIGTERM under load, against `convd serve` in a process of its own."""

import threading
import time
from pathlib import Path

import grpc
import pytest

from convd.protos.convd.v1 import classification_pb2 as pb
from convd.protos.convd.v1.classification_pb2_grpc import ClassificationServiceStub
from testbed.server import server_process
from tests.digits import Digits
from tests.support import png, wait_until

CLIENTS = 16


def test_accepted_calls_are_answered_new_ones_refused_and_the_exit_code_is_0(
    repository: Path, digits: Digits, tmp_path: Path
) -> None:
    picture = png(digits.picture(0).resize((800, 800)))
    request = pb.ClassifyRequest(
        model=pb.ModelSpec(name="digits"), images=[pb.Image(encoded=picture)] * 4
    )
    codes: list[grpc.StatusCode] = []
    refused = threading.Event()

    def load(port: int) -> None:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            stub = ClassificationServiceStub(channel)
            while not refused.is_set():
                try:
                    assert len(stub.Classify(request, timeout=30).results) == 4
                    codes.append(grpc.StatusCode.OK)
                except grpc.RpcError as error:
                    codes.append(error.code())
                    refused.set()

    with server_process(repository, tmp_path / "log", "--drain-seconds", "20") as server:
        threads = [threading.Thread(target=load, args=(server.grpc_port,)) for _ in range(CLIENTS)]
        for thread in threads:
            thread.start()
        wait_until(lambda: len(codes) > CLIENTS)
        started = time.monotonic()
        assert server.terminate() == 0, server.log.read_text()
        drained_seconds = time.monotonic() - started
        for thread in threads:
            thread.join()
    assert drained_seconds < 20
    # Whoever was accepted has its answer; whoever came too late was told so, and nothing else.
    assert set(codes) == {grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE}
    assert "stopped after" in server.log.read_text()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--repository", "nowhere"], "the repository nowhere does not exist"),
        (["--grpc-port", "many"], "--grpc-port: many cannot be used"),
        (["--max-images-per-request", "5000"], "greater than max_queue_size"),
    ],
)
def test_a_server_that_cannot_start_says_why(
    repository: Path, flags: list[str], message: str
) -> None:
    from click.testing import CliRunner

    from convd.commands.serve import command

    result = CliRunner().invoke(command, ["--repository", str(repository), *flags])
    assert result.exit_code == 1
    assert message in result.output
