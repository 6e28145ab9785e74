"""In a server, threads that run Python stay on one core, and those that compute do not."""

import os
import re
from pathlib import Path

import grpc
import psutil
import pytest

from convd.protos.convd.v1 import classification_pb2 as pb
from convd.protos.convd.v1.classification_pb2_grpc import ClassificationServiceStub
from testbed.server import ServerProcess, http_get, server_process
from tests.artifact.formats.pictures import drawn, encoded
from tests.tiny_artifact import publish_tiny

CORES = os.sched_getaffinity(0)

pytestmark = pytest.mark.skipif(len(CORES) < 2, reason="needs two cores")


def ask(server: ServerProcess) -> None:
    images = [pb.Image(encoded=encoded(drawn(300, 200), "JPEG"))]
    request = pb.ClassifyRequest(model=pb.ModelSpec(name="pets"), images=images)
    with grpc.insecure_channel(server.address) as channel:
        assert ClassificationServiceStub(channel).Classify(request, timeout=30).results
    assert http_get(server.http_port, "/readyz")[0] == 200


def threads_by_cores(pid: int) -> dict[int, list[str]]:
    """Names of the threads that may run on so many cores."""
    found: dict[int, list[str]] = {}
    for thread in psutil.Process(pid).threads():
        comm = Path(f"/proc/{pid}/task/{thread.id}/comm").read_text().strip()
        found.setdefault(len(os.sched_getaffinity(thread.id)), []).append(comm)
    return found


@pytest.mark.parametrize("flag", ["--home-core", "--no-home-core"])
def test_interpreter_on_one_core_engine_on_all(tmp_path: Path, flag: str) -> None:
    publish_tiny(tmp_path / "repository")
    flags = ("--intra-op-threads", 2, flag)
    with server_process(tmp_path / "repository", tmp_path / "log", *flags) as server:
        ask(server)
        found = threads_by_cores(server.pid)
        main = os.sched_getaffinity(server.pid)
    assert main == CORES
    assert "convd-engine" in found[len(CORES)]
    at_home = found.get(1, [])
    assert "convd-engine" not in at_home
    # What receives calls, what answers one, and two of HTTP.
    assert len(at_home) >= 4 if flag == "--home-core" else not at_home


def test_each_worker_settles_at_a_core_of_its_own(tmp_path: Path) -> None:
    publish_tiny(tmp_path / "repository")
    flags = ("--workers", 2, "--log-level", "debug")
    with server_process(tmp_path / "repository", tmp_path / "log", *flags) as server:
        ask(server)
        log = server.log.read_text()
    assert len(set(re.findall(r"the threads that run Python stay on core (\d+)", log))) > 1
