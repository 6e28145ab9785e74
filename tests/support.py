"""What tests of several rooms need: real servers on loopback, clients, and altered artifacts."""

import contextlib
import dataclasses
import http.client
import io
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from PIL import Image

from convd.artifact.bundle import MANIFEST_FILE, write_manifest
from convd.artifact.manifest import Manifest
from convd.protos.convd.v1 import classification_pb2 as pb
from convd.protos.convd.v1.classification_pb2_grpc import ClassificationServiceStub
from convd.service.application import Application
from convd.service.calls.tracing import Tracer
from convd.service.settings import ServerSettings
from testbed.server import free_ports as free_ports
from testbed.server import http_get

ROOT = Path(__file__).parent.parent


def png(picture: Image.Image) -> bytes:
    """Encode a picture as PNG."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def add_version(repository: Path, name: str, source: Path) -> Path:
    """Copy an artifact into a repository as the next version of a model, atomically."""
    model = repository / name
    model.mkdir(parents=True, exist_ok=True)
    version = max((int(path.name) for path in model.iterdir() if path.name.isdigit()), default=0)
    staging = model / ".staging-copy"
    shutil.copytree(source, staging)
    target = model / str(version + 1)
    staging.rename(target)
    return target


def rewrite_manifest(artifact: Path, **changes: Any) -> None:
    """Change a manifest and its checksum together, as an artifact made so would have them."""
    manifest = Manifest.model_validate_json((artifact / MANIFEST_FILE).read_bytes())
    write_manifest(artifact, manifest.model_copy(update=changes))


@dataclasses.dataclass
class Client:
    """A stub with shorthands."""

    channel: grpc.Channel
    http_port: int
    grpc_port: int

    def __post_init__(self) -> None:
        self.stub = ClassificationServiceStub(self.channel)

    def classify(
        self, *images: bytes, model: str = "digits", top_k: int = 0, **call: Any
    ) -> pb.ClassifyResponse:
        """Send encoded images in one request."""
        request = pb.ClassifyRequest(
            model=pb.ModelSpec(name=model),
            images=[pb.Image(encoded=image) for image in images],
            top_k=top_k,
        )
        return self.stub.Classify(request, timeout=call.pop("timeout", 30), **call)

    def get(self, path: str, token: str = "") -> tuple[int, str]:
        """Status and text of an HTTP endpoint."""
        return http_get(self.http_port, path, token=token)


def code_of(call: Callable[[], object]) -> tuple[grpc.StatusCode, str]:
    """Make a call that must fail; status code and text of its refusal."""
    with pytest.raises(grpc.RpcError) as refused:
        call()
    return refused.value.code(), refused.value.details() or ""


@contextlib.contextmanager
def running_server(
    repository: Path | str, *, tracer: Tracer | None = None, wait: bool = True, **settings: Any
) -> Iterator[Client]:
    """Run a server in this process until the block ends; it has loaded its models, if `wait`."""
    defaults: dict[str, Any] = {
        "grpc_port": 0,
        "http_port": 0,
        "poll_seconds": 0.05,
        "drain_seconds": 5.0,
        "intra_op_threads": 1,
        "max_batch_size": 8,
        # Tests of what it does run `convd serve`, and it takes each of the others a while.
        "load_memory_bytes": 0,
    }
    merged = ServerSettings(repository=repository, **(defaults | settings))
    application = Application(merged, tracer=tracer)
    application.start()
    try:
        wait_until(lambda: not wait or not application.unready_reason().startswith("loading"))
        with grpc.insecure_channel(f"127.0.0.1:{application.grpc_port}") as channel:
            yield Client(channel, application.http_port, application.grpc_port)
    finally:
        application.drain()


def wait_until(condition: Any, timeout_seconds: float = 60.0) -> None:
    """Wait until something holds; fail if it never does."""
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        assert time.monotonic() < deadline, "what was waited for did not happen"
        time.sleep(0.02)


def http_request(
    port: int, method: str, path: str, body: bytes | None = None, **headers: str
) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of any HTTP request on loopback; `Sec_Fetch_Site` is a header."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, sent)
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()
    finally:
        connection.close()
