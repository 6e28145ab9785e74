"""A real server for drills, and clients that load it."""

import contextlib
import io
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

import grpc
import numpy as np
from PIL import Image

from bench.drills.prometheus import wait_until
from convd.protos.convd.v1 import classification_pb2 as pb
from convd.protos.convd.v1.classification_pb2_grpc import ClassificationServiceStub

MODEL = "digits"
START_SECONDS = 90.0


def png(picture: Image.Image) -> bytes:
    """Encode a picture."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def request(*images: bytes, model: str = MODEL) -> pb.ClassifyRequest:
    """A request with these encoded images."""
    return pb.ClassifyRequest(
        model=pb.ModelSpec(name=model), images=[pb.Image(encoded=image) for image in images]
    )


class Server:
    """`convd serve` in a process of its own.

    Args:
        repository: What it serves.
        log: Where its log goes.
        grpc_port: Its gRPC port.
        http_port: Its HTTP port.
        flags: Further flags of `convd serve`.
    """

    def __init__(
        self, repository: Path, log: Path, grpc_port: int, http_port: int, flags: Sequence[str]
    ) -> None:
        self.address = f"127.0.0.1:{grpc_port}"
        self.metrics_address = f"127.0.0.1:{http_port}"
        self._command = [sys.executable, "-m", "convd", "serve", f"--repository={repository}"]
        self._command += [f"--grpc-port={grpc_port}", f"--http-port={http_port}", *flags]
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it is ready."""
        with self._log.open("a") as log:
            self._process = subprocess.Popen(self._command, stderr=log)
        wait_until(self._is_ready, f"the server is ready; see {self._log}", START_SECONDS)

    def kill(self) -> None:
        """Kill it without a word."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()

    def stop(self) -> int:
        """Let it drain; its exit code."""
        assert self._process is not None  # noqa: S101
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait()

    def _is_ready(self) -> bool:
        with contextlib.suppress(urllib.error.URLError, ConnectionError):
            urllib.request.urlopen(f"http://{self.metrics_address}/readyz", timeout=2).close()
            return True
        return False


@contextlib.contextmanager
def load(
    address: str,
    requests: Sequence[pb.ClassifyRequest],
    *,
    clients: int,
    timeout_seconds: float = 30.0,
) -> Iterator[None]:
    """Send requests in turn from several clients until the block ends; errors are what they are."""
    stop = threading.Event()

    def send(number: int) -> None:
        generator = np.random.default_rng(number)
        with grpc.insecure_channel(address) as channel:
            stub = ClassificationServiceStub(channel)
            while not stop.is_set():
                chosen = requests[int(generator.integers(len(requests)))]
                with contextlib.suppress(grpc.RpcError):
                    stub.Classify(chosen, timeout=timeout_seconds)

    threads = [threading.Thread(target=send, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()
