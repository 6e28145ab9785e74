"""`convd serve --workers 2` as processes of its own."""

import io
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import grpc
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families

from convd.protos.convd.v1 import classification_pb2 as pb
from convd.protos.convd.v1.classification_pb2_grpc import ClassificationServiceStub
from convd.protos.inference import grpc_service_pb2 as open_inference_pb
from convd.protos.inference.grpc_service_pb2_grpc import GRPCInferenceServiceStub
from convd.service.address import BindError
from convd.service.settings_sources import load_settings
from convd.service.workers.supervisor import Supervisor, divide
from testbed.server import ServerProcess, environment, http_get, server_process
from tests.support import ROOT, wait_until
from tests.tiny_artifact import publish_tiny

pytestmark = pytest.mark.slow

RETRIES = """{"methodConfig": [{"name": [{"service": "convd.v1.ClassificationService"}],
  "retryPolicy": {"maxAttempts": 5, "initialBackoff": "0.05s", "maxBackoff": "1s",
                  "backoffMultiplier": 2, "retryableStatusCodes": ["UNAVAILABLE"]}}]}"""


def picture() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(buffer, "PNG")
    return buffer.getvalue()


def channel(server: ServerProcess) -> grpc.Channel:
    """A connection of its own, with the retry policy of a client."""
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.service_config", RETRIES)]
    return grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}", options=options)


def classify(stub: ClassificationServiceStub) -> pb.ClassifyResponse:
    request = pb.ClassifyRequest(
        model=pb.ModelSpec(name="pets"), images=[pb.Image(encoded=picture())]
    )
    return stub.Classify(request, timeout=30)


def metric(server: ServerProcess, name: str, **labels: str) -> float:
    text = http_get(server.http_port, "/metrics")[1]
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


def workers(server: ServerProcess) -> list[int]:
    """Process ids of the workers, in the order of their numbers."""
    found = re.findall(r"worker (\d+) is process (\d+)", server.log.read_text())
    return [pid for _, pid in sorted({int(number): int(pid) for number, pid in found}.items())]


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    publish_tiny(tmp_path / "repository")
    return tmp_path / "repository"


def test_two_workers_share_the_port_survive_a_kill_and_drain(
    repository: Path, tmp_path: Path
) -> None:
    answered = 0
    failures: list[grpc.RpcError] = []
    stop = threading.Event()
    lock = threading.Lock()

    def load(server: ServerProcess) -> None:
        nonlocal answered
        with channel(server) as connection:
            stub = ClassificationServiceStub(connection)
            while not stop.is_set():
                try:
                    assert len(classify(stub).results) == 1
                    with lock:
                        answered += 1
                except grpc.RpcError as error:
                    failures.append(error)

    flags = ("--workers", "2", "--provider", "cpu", "--drain-seconds", "10")
    with server_process(repository, tmp_path / "log", *flags) as server:
        assert metric(server, "convd_workers_ready") == 2
        first, second = workers(server)
        threads = [threading.Thread(target=load, args=(server,)) for _ in range(6)]
        for thread in threads:
            thread.start()
        wait_until(lambda: answered > 100)
        counted = metric(server, "convd_requests_total", code="OK")
        os.kill(first, signal.SIGKILL)
        wait_until(lambda: metric(server, "convd_worker_restarts_total") == 1)
        assert metric(server, "convd_requests_total", code="OK") >= counted
        wait_until(lambda: http_get(server.http_port, "/readyz")[0] == 200)
        assert workers(server)[0] != first
        assert workers(server)[1] == second
        before = answered
        wait_until(lambda: answered > before + 100)
        stop.set()
        for thread in threads:
            thread.join()
        assert failures == [], "the client's policy tries again what a dead worker had"
        # Only what the dead worker had counted since its last report is lost.
        assert counted <= metric(server, "convd_requests_total", code="OK") <= answered
        assert server.terminate() == 0, server.log.read_text()
    log = server.log.read_text()
    assert f"worker 1 ended with exit code -{signal.SIGKILL:d}" in log
    assert log.count("draining for up to 10 s") == 2
    assert not psutil.pid_exists(second)


def test_statistics_are_those_of_all_workers_living_and_dead(
    repository: Path, tmp_path: Path
) -> None:
    def counted(connection: grpc.Channel) -> open_inference_pb.ModelStatistics:
        request = open_inference_pb.ModelStatisticsRequest(name="pets")
        stub = GRPCInferenceServiceStub(connection)
        (only,) = stub.ModelStatistics(request, timeout=30, wait_for_ready=True).model_stats
        return only

    def ask(server: ServerProcess, connections: int) -> None:
        for _ in range(connections):
            with channel(server) as connection:
                classify(ClassificationServiceStub(connection))

    def answered(server: ServerProcess) -> int:
        with channel(server) as connection:
            return counted(connection).inference_count

    flags = ("--workers", "2", "--provider", "cpu")
    with server_process(repository, tmp_path / "log", *flags) as server:
        ask(server, 24)
        wait_until(lambda: answered(server) == 24)
        # Each connection meets one worker, and whichever it is gives the same answer.
        assert {answered(server) for _ in range(12)} == {24}
        first, second = workers(server)
        os.kill(first, signal.SIGKILL)
        wait_until(lambda: metric(server, "convd_worker_restarts_total") == 1)
        wait_until(lambda: http_get(server.http_port, "/readyz")[0] == 200)
        assert {answered(server) for _ in range(12)} == {24}
        os.kill(second, signal.SIGKILL)
        wait_until(lambda: metric(server, "convd_worker_restarts_total") == 2)
        wait_until(lambda: http_get(server.http_port, "/readyz")[0] == 200)
        ask(server, 6)
        wait_until(lambda: answered(server) == 30)
        with channel(server) as connection:
            stats = counted(connection).inference_stats
        assert (stats.success.count, stats.queue.count, stats.fail.count) == (30, 30, 0)
        assert server.terminate() == 0, server.log.read_text()


def test_readiness_names_a_worker_that_hangs_and_none_outlives_its_supervisor(
    repository: Path, tmp_path: Path
) -> None:
    flags = ("--workers", "2", "--provider", "cpu")
    with server_process(repository, tmp_path / "log", *flags) as server:
        stopped = psutil.Process(workers(server)[1])
        stopped.suspend()
        wait_until(lambda: http_get(server.http_port, "/readyz")[0] == 503)
        assert "worker 2: has not answered" in http_get(server.http_port, "/readyz")[1]
        stopped.resume()
        wait_until(lambda: http_get(server.http_port, "/readyz")[0] == 200)
        processes = [psutil.Process(pid) for pid in workers(server)]
        server.process.kill()
        server.process.wait()
        gone, alive = psutil.wait_procs(processes, timeout=60)
        assert (len(gone), alive) == (2, [])


def test_a_model_is_unloaded_by_every_worker_and_by_those_that_come_later(
    repository: Path, tmp_path: Path
) -> None:
    publish_tiny(repository, "other")

    def served_by_all(server: ServerProcess) -> set[bool]:
        """Whether it is answered, over connections enough to meet every worker."""
        outcomes = set()
        for _ in range(12):
            with channel(server) as connection:
                health = health_pb2_grpc.HealthStub(connection)
                request = health_pb2.HealthCheckRequest(service="pets")
                outcomes.add(health.Check(request, timeout=10).status == 1)
        return outcomes

    flags = ("--workers", "2", "--provider", "cpu", "--allow-repository-control")
    with server_process(repository, tmp_path / "log", *flags) as server:
        with channel(server) as connection:
            stub = GRPCInferenceServiceStub(connection)
            assert served_by_all(server) == {True}
            stub.RepositoryModelUnload(
                open_inference_pb.RepositoryModelUnloadRequest(model_name="pets"), timeout=60
            )
        assert served_by_all(server) == {False}
        os.kill(workers(server)[1], signal.SIGKILL)
        wait_until(lambda: metric(server, "convd_worker_restarts_total") == 1)
        wait_until(lambda: http_get(server.http_port, "/readyz")[0] == 200)
        assert True not in {
            one.state == pb.ModelVersion.STATE_AVAILABLE
            for _ in range(12)
            for one in listed(server)
            if one.name == "pets"
        }
        with channel(server) as connection:
            stub = GRPCInferenceServiceStub(connection)
            stub.RepositoryModelLoad(
                open_inference_pb.RepositoryModelLoadRequest(model_name="pets"), timeout=60
            )
        assert served_by_all(server) == {True}
        with channel(server) as connection, pytest.raises(grpc.RpcError) as caught:
            GRPCInferenceServiceStub(connection).RepositoryModelLoad(
                open_inference_pb.RepositoryModelLoadRequest(model_name="nobody"), timeout=60
            )
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def listed(server: ServerProcess) -> list[pb.ModelVersion]:
    with channel(server) as connection:
        stub = ClassificationServiceStub(connection)
        return list(stub.ListModels(pb.ListModelsRequest(), timeout=10).models)


def test_a_port_that_is_taken_is_refused_though_workers_could_share_it(repository: Path) -> None:
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        settings = {"repository": repository, "grpc_port": port, "http_port": 0, "workers": 2}
        with pytest.raises(BindError, match=f"{port}: Address already in use; choose another"):
            Supervisor(load_settings(settings))


def test_a_server_whose_repository_is_missing_says_so_at_once(tmp_path: Path) -> None:
    code, log = serve_in_vain("--repository", tmp_path / "nowhere")
    assert code == 1
    assert "nowhere does not exist" in log


def test_a_setting_that_no_worker_can_use_ends_the_server(repository: Path, tmp_path: Path) -> None:
    key = tmp_path / "missing.pem"
    code, log = serve_in_vain("--repository", repository, "--require-signature", key)
    assert code == 1
    assert "missing.pem" in log
    assert "Traceback" not in log


def serve_in_vain(*flags: object) -> tuple[int, str]:
    command = [sys.executable, "-m", "convd", "serve", "--workers", "2"]
    command += ["--grpc-port", "0", "--http-port", "0", *map(str, flags)]
    run = subprocess.run(
        command, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False
    )
    return run.returncode, run.stderr


@given(cores=st.integers(1, 64), count=st.integers(1, 64))
def test_cores_are_divided_without_one_left_over_or_used_twice(cores: int, count: int) -> None:
    shares = divide(cores, count)
    assert len(shares) == count
    assert min(shares) >= 1
    assert max(shares) - min(shares) <= 1
    assert sum(shares) == max(cores, count)
