"""How `convd serve` ends: in time, whatever is in progress, and saying what was cut."""

import contextlib
import ctypes
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from convd.protos.convd.v1 import classification_pb2 as pb
from convd.protos.convd.v1.classification_pb2_grpc import ClassificationServiceStub
from convd.protos.inference import grpc_service_pb2 as open_inference
from convd.protos.inference import grpc_service_pb2_grpc as open_inference_grpc
from convd.service.termination import CALLS_CUT
from testbed.server import ServerProcess, http_get, server_process
from tests.artifact.formats.pictures import drawn, encoded
from tests.support import wait_until
from tests.tiny_artifact import publish_tiny

pytestmark = pytest.mark.slow

DRAIN_SECONDS = 2.0
# The promise is two seconds; a busy machine may be slow to run anything.
END_SECONDS = DRAIN_SECONDS + 2.0 + 6.0

# Large to decode, and small to send.
DEAR = encoded(drawn(4000, 4000), "JPEG", progressive=True, quality=2)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    publish_tiny(tmp_path / "repository")
    return tmp_path / "repository"


@pytest.fixture
def server(repository: Path, tmp_path: Path) -> Iterator[ServerProcess]:
    with server_process(repository, tmp_path / "log", "--drain-seconds", DRAIN_SECONDS) as server:
        yield server


def end(server: ServerProcess) -> int:
    server.process.send_signal(signal.SIGTERM)
    return server.process.wait(END_SECONDS)


def classify_in_background(server: ServerProcess, *images: bytes) -> threading.Thread:
    request = pb.ClassifyRequest(
        model=pb.ModelSpec(name="pets"), images=[pb.Image(encoded=image) for image in images]
    )

    def call() -> None:
        with (
            grpc.insecure_channel(server.address) as channel,
            contextlib.suppress(grpc.RpcError),
        ):
            ClassificationServiceStub(channel).Classify(request)

    thread = threading.Thread(target=call)
    thread.start()
    return thread


def test_calls_that_were_cut_are_counted_in_the_last_line_and_the_exit_code(
    server: ServerProcess,
) -> None:
    thread = classify_in_background(server, *[DEAR] * 40)
    time.sleep(0.5)
    assert end(server) == CALLS_CUT
    thread.join()
    assert "1 calls were cut" in server.log.read_text().splitlines()[-1]


def test_messages_that_nobody_can_read_do_not_hold_the_end_up(server: ServerProcess) -> None:
    with grpc.insecure_channel(server.address) as channel:
        stream = channel.stream_stream(
            "/inference.GRPCInferenceService/ModelStreamInfer",
            request_serializer=lambda message: message,
            response_deserializer=lambda message: message,
        )
        answers = stream(b"\xff\xff\xff\xff" for _ in range(20))
        with pytest.raises(grpc.RpcError):
            list(answers)
        assert end(server) in (0, CALLS_CUT)


def test_idle_streams_and_silent_connections_do_not_hold_the_end_up(server: ServerProcess) -> None:
    silent = [socket.create_connection(("127.0.0.1", server.grpc_port)) for _ in range(20)]
    silent += [socket.create_connection(("127.0.0.1", server.http_port)) for _ in range(20)]
    with grpc.insecure_channel(server.address) as channel:
        forever = threading.Event()
        stub = open_inference_grpc.GRPCInferenceServiceStub(channel)

        def nothing() -> Iterator[open_inference.ModelInferRequest]:
            forever.wait()
            yield from ()

        streams = [stub.ModelStreamInfer(nothing()) for _ in range(16)]
        time.sleep(0.5)
        assert end(server) == 0
        forever.set()
        del streams
    for connection in silent:
        connection.close()


def test_a_second_signal_ends_it_at_once(repository: Path, tmp_path: Path) -> None:
    flags = ("--drain-seconds", 60)
    with server_process(repository, tmp_path / "log", *flags) as server:
        thread = classify_in_background(server, *[DEAR] * 100)
        time.sleep(0.5)
        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: "received SIGTERM" in server.log.read_text())
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(10.0) == -signal.SIGTERM
        thread.join()


def test_a_hangup_has_the_repository_looked_at(repository: Path, tmp_path: Path) -> None:
    flags = ("--poll-seconds", "never", "--drain-seconds", DRAIN_SECONDS)
    with server_process(repository, tmp_path / "log", *flags) as server:
        publish_tiny(repository, seed=1)
        server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "pets version 2" in server.log.read_text())
        assert "received SIGHUP" in server.log.read_text()
        assert end(server) == 0


def test_a_lame_duck_answers_and_is_not_ready(repository: Path, tmp_path: Path) -> None:
    flags = ("--lame-duck-seconds", 3, "--drain-seconds", DRAIN_SECONDS)
    with server_process(repository, tmp_path / "log", *flags) as server:
        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: http_get(server.http_port, "/readyz")[0] == 503)
        with grpc.insecure_channel(server.address) as channel:
            request = pb.ListModelsRequest()
            assert ClassificationServiceStub(channel).ListModels(request, timeout=10).models
        assert server.process.wait(END_SECONDS + 3) == 0


@pytest.mark.parametrize("workers", [1, 2])
def test_a_signal_that_the_system_gives_to_another_thread_ends_it_too(
    workers: int, repository: Path, tmp_path: Path
) -> None:
    flags = ("--drain-seconds", DRAIN_SECONDS, "--workers", workers)
    with server_process(repository, tmp_path / "log", *flags) as server:
        threads = [int(task.name) for task in Path(f"/proc/{server.pid}/task").iterdir()]
        other = max(set(threads) - {server.pid})
        system_calls = ctypes.CDLL(None, use_errno=True)
        assert system_calls.tgkill(server.pid, other, signal.SIGTERM) == 0
        assert server.process.wait(END_SECONDS) == 0
