"""What a serving process opens and connects to is what docs/operating.md names, and nothing else.

`make strace` watches for a minute; the usual run is shorter.
"""

import contextlib
import os
import re
import shutil
import time
from pathlib import Path

import grpc
import psutil
import pytest

from convd.protos.convd.v1 import classification_pb2 as pb
from convd.protos.convd.v1.classification_pb2_grpc import ClassificationServiceStub
from testbed.server import ServerProcess, environment, http_get, server_process
from tests.artifact.formats.pictures import drawn, encoded
from tests.support import wait_until
from tests.tiny_artifact import publish_tiny

pytestmark = [pytest.mark.slow, pytest.mark.parametrize("workers", [1, 2])]

SECONDS = float(os.environ.get("STRACE_SECONDS", "2"))

_CALLS = "connect,sendto,sendmsg,sendmmsg,open,openat,creat,mkdir,mkdirat,rename,renameat,renameat2"
_WRITES = re.compile(r"O_WRONLY|O_RDWR|O_CREAT|\b(creat|mkdir|mkdirat|rename\w*)\(")
# Of what is answered on a connection, the system is not told an address.
_ADDRESSED = re.compile(r"\b(connect|sendto|sendmsg|sendmmsg)\(.*AF_INET")

# docs/operating.md names these.
_NAMED = re.compile(
    r'"/proc/(thread-self|self/task/\d+)/comm"|"/proc/self/oom_score_adj"|/__pycache__/'
)


def serve(server: ServerProcess, repository: Path, seconds: float) -> None:
    """Everything that a server does from day to day."""
    until = time.monotonic() + seconds
    version = publish_tiny(repository, seed=1)
    images = [pb.Image(encoded=encoded(drawn(64, 64), kind)) for kind in ("PNG", "JPEG", "WEBP")]
    request = pb.ClassifyRequest(model=pb.ModelSpec(name="pets"), images=images)
    while time.monotonic() < until:
        with grpc.insecure_channel(server.address) as channel:
            stub = ClassificationServiceStub(channel)
            assert stub.Classify(request, timeout=30).results
            assert stub.ListModels(pb.ListModelsRequest(), timeout=30).models
        for path in ("/metrics", "/livez", "/readyz", "/"):
            assert http_get(server.http_port, path)[0] == 200
        time.sleep(0.2)
    wait_until(lambda: f"pets version {version}" in server.log.read_text())


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
@pytest.mark.timeout(180 + 10 * SECONDS)
def test_no_name_is_resolved_and_no_file_written(tmp_path: Path, workers: int) -> None:
    """As the system sees it, from the first instruction on, in every process."""
    repository, trace = tmp_path / "repository", tmp_path / "trace"
    publish_tiny(repository)
    strace = ("strace", "-D", "-f", "-qq", "-e", f"trace={_CALLS}", "-o", trace)
    flags = ("--workers", workers, "--drain-seconds", 2)
    with server_process(repository, tmp_path / "log", *flags, under=strace) as server:
        serve(server, repository, SECONDS)
    lines = trace.read_text().splitlines()
    assert any(str(repository) in line for line in lines), "nothing was watched"
    written = [line for line in lines if _WRITES.search(line) and not _NAMED.search(line)]
    assert written == []
    assert [line for line in lines if _ADDRESSED.search(line)] == []


def test_only_its_own_ports_and_files_are_open(tmp_path: Path, workers: int) -> None:
    """As /proc shows it, again and again; home and temporary folder stay empty."""
    repository = tmp_path / "repository"
    publish_tiny(repository)
    folders = {name: tmp_path / name.lower() for name in ("HOME", "TMPDIR")}
    for folder in folders.values():
        folder.mkdir()
    env = environment() | {name: str(folder) for name, folder in folders.items()}
    flags = ("--workers", workers, "--drain-seconds", 2)
    log = tmp_path / "log"
    with server_process(repository, log, *flags, env=env) as server:
        ours = {server.grpc_port, server.http_port}
        for _ in range(max(1, round(SECONDS / 2))):
            serve(server, repository, 1.0)
            root = psutil.Process(server.pid)
            for process in (root, *root.children(recursive=True)):
                # A process that tries a network may end meanwhile.
                with contextlib.suppress(psutil.NoSuchProcess, FileNotFoundError):
                    for one in process.net_connections("inet"):
                        assert one.laddr.port in ours, one
                    # What it writes to and reads from is given to it.
                    assert _open_for_writing(process.pid) <= {str(log), "/dev/null"}
        assert [list(folder.iterdir()) for folder in folders.values()] == [[], []]


def _open_for_writing(pid: int) -> set[str]:
    """Paths that a process has open for writing; pipes, sockets and the like have none."""
    found = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        target = str(descriptor.readlink())
        flags = re.search(
            r"^flags:\s+(\d+)", Path(f"/proc/{pid}/fdinfo/{descriptor.name}").read_text(), re.M
        )
        if target.startswith("/") and flags and int(flags[1], 8) & (os.O_WRONLY | os.O_RDWR):
            found.add(target)
    return found
