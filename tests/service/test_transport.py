"""How `convd serve` reads its connections."""

import sys
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from convd.protos.convd.v1 import classification_pb2 as pb
from convd.protos.convd.v1.classification_pb2_grpc import ClassificationServiceStub
from testbed.server import environment, server_process

CALLS = 100


def _wake_ups(pid: int) -> Iterator[int]:
    """How often each thread that gRPC's transport has of its own has slept."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        status = dict(
            line.split(":", 1) for line in (task / "status").read_text().splitlines() if ":" in line
        )
        if status["Name"].strip() == "event_engine":
            yield int(status["voluntary_ctxt_switches"])


@pytest.mark.skipif(sys.platform != "linux", reason="threads are counted in /proc")
def test_no_thread_stands_between_a_connection_and_who_takes_its_calls(
    repository: Path, tmp_path: Path
) -> None:
    env = environment()
    env.pop("GRPC_EXPERIMENTS", None)
    with (
        server_process(repository, tmp_path / "log", env=env) as server,
        grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel,
    ):
        stub = ClassificationServiceStub(channel)
        stub.ListModels(pb.ListModelsRequest())
        before = sum(_wake_ups(server.process.pid))
        for _ in range(CALLS):
            stub.ListModels(pb.ListModelsRequest())
        woken = sum(_wake_ups(server.process.pid)) - before
    # With threads of gRPC's own between, it is four for each call.
    assert woken < CALLS
