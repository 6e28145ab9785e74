"""A real server on loopback that serves one version several times, each time configured otherwise.

All of a request's way is in the figures: gRPC, decoding, batching, the network, the answer. A
server in a process of its own has an interpreter of its own, as in production, and its end frees
all that was tried.
"""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import grpc
import yaml

from convd.artifact.repository import CONFIGURATION_FILE
from convd.client.client import Client
from convd.client.connection import Connection
from convd.commands.load_generator import OK, Workload, run_workload
from convd.commands.load_report import LoadReport, summarize
from convd.commands.tuning.engine_choice import EngineChoice
from convd.protos.convd.v1 import classification_pb2 as pb
from convd.protos.inference import grpc_service_pb2 as v2
from convd.protos.inference.grpc_service_pb2_grpc import GRPCInferenceServiceStub

_START_SECONDS = 60.0
_LOAD_SECONDS = 600.0
_DRAIN_SECONDS = 30.0
_PROGRAM = """
import ctypes, runpy, signal
ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG of <linux/prctl.h>
runpy.run_module("convd", run_name="__main__", alter_sys=True)
"""
"""A server that the system ends when its parent dies, however that happens."""

_CONNECTIONS = 4
_CONNECTIONS_PER_WORKER = 8


class TrialError(Exception):
    """A choice cannot be measured; the text says why."""


@dataclass(frozen=True)
class Subject:
    """What is served in all trials.

    Attributes:
        version_folder: The version's folder, on the disk of the trial repositories.
        images: Encoded pictures to classify in turn.
        kept: Settings of the model's `config.yaml` that are not up for choice.
    """

    version_folder: Path
    images: Sequence[bytes]
    kept: Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Contestant:
    """A choice, loaded and ready to be measured.

    Attributes:
        choice: The settings.
        server: Where it is loaded.
        name: Its name there.
        computed_by: The provider and the precision that it got.
        version: Which version it is, in words; empty for the one that is tuned.
    """

    choice: EngineChoice
    server: "TrialServer"
    name: str
    computed_by: str
    version: str = ""

    def measure(self, callers: int, seconds: float) -> LoadReport:
        """Ask it with one picture per request, from callers that wait for each answer.

        Raises:
            TrialError: A request was refused.
        """
        return self.server.measure(self.name, callers, seconds)

    def close(self) -> None:
        """Unload it."""
        self.server.unload(self.name)

    def __str__(self) -> str:
        workers = f"{self.server.workers} workers" if self.server.workers > 1 else ""
        return ", ".join(filter(None, (self.version, str(self.choice), workers)))


class TrialServer:
    """`convd serve` on a repository of trials.

    Args:
        folder: An empty folder for the repository and the log, on the disk of the version's.
        subject: What to serve.
        workers: Server processes.
    """

    def __init__(self, folder: Path, subject: Subject, workers: int = 1) -> None:
        self.workers = workers
        self._subject = subject
        self._repository = folder / "repository"
        self._log = folder / "server.log"
        self._tried = 0
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._repository.mkdir(parents=True)
        with socket.create_server(("127.0.0.1", 0)) as free:
            address = f"127.0.0.1:{free.getsockname()[1]}"
        self._connection = Connection(address)
        self._process = self._launch(address.rpartition(":")[2])
        self._stack.callback(self._end)
        try:
            self._channel = self._stack.enter_context(grpc.insecure_channel(address))
            self._client = self._stack.enter_context(Client(self._connection))
            self._wait_until_it_answers()
        except BaseException:
            self._stack.close()
            raise
        self._control = GRPCInferenceServiceStub(self._channel)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def load(
        self, choice: EngineChoice, version_folder: Path | None = None, version: str = ""
    ) -> Contestant:
        """Load the version with a choice.

        Args:
            choice: The settings.
            version_folder: Another version to load in its place.
            version: Which one that is, in words.

        Raises:
            TrialError: It cannot be loaded so.
        """
        self._tried += 1
        name = f"trial-{self._tried}"
        folder = self._repository / name
        source = version_folder or self._subject.version_folder
        # The same files under another name: nothing is copied.
        shutil.copytree(source, folder / source.name, copy_function=os.link)
        written = {**self._subject.kept, **choice.changes()}
        (folder / CONFIGURATION_FILE).write_text(yaml.safe_dump(written), encoding="utf-8")
        try:
            self._control.RepositoryModelLoad(
                v2.RepositoryModelLoadRequest(model_name=name), timeout=_LOAD_SECONDS
            )
        except grpc.RpcError as error:
            raise TrialError(str(error.details())) from error
        (loaded,) = (one for one in self._client.models() if one.name == name)
        computed_by = f"{loaded.provider} ({loaded.precision})"
        return Contestant(choice, self, name, computed_by, version)

    def unload(self, name: str) -> None:
        """Free what was loaded."""
        self._control.RepositoryModelUnload(
            v2.RepositoryModelUnloadRequest(model_name=name), timeout=_LOAD_SECONDS
        )

    def measure(self, name: str, callers: int, seconds: float) -> LoadReport:
        """As `Contestant.measure`."""
        requests = [
            pb.ClassifyRequest(
                model=pb.ModelSpec(name=name), images=[pb.Image(encoded=image)], top_k=5
            )
            for image in self._subject.images
        ]
        # The system spreads connections over the workers, evenly only if they are many.
        connections = _CONNECTIONS if self.workers == 1 else _CONNECTIONS_PER_WORKER * self.workers
        workload = Workload(
            self._connection, requests, seconds, concurrency=callers, connections=connections
        )
        report = summarize(run_workload(workload))
        refused = {code: count for code, count in report.codes.items() if code != OK}
        if refused:
            raise TrialError(
                f"{sum(refused.values())} of {report.requests} requests ended with "
                f"{', '.join(refused)}"
            )
        return report

    def _launch(self, port: str) -> "subprocess.Popen[bytes]":
        settings = {
            "repository": self._repository,
            "grpc-port": port,
            "http-port": 0,
            "poll-seconds": "never",
            # What one server has proved once need not be proved by a process for each trial.
            "load-memory-bytes": 0,
            "workers": self.workers,
        }
        words = [sys.executable, "-c", _PROGRAM, "serve", "--allow-repository-control"]
        words += [word for name, value in settings.items() for word in (f"--{name}", str(value))]
        # The operator's settings of a server, such as its certificate, are not these servers'.
        environment = {key: value for key, value in os.environ.items() if key[:6] != "CONVD_"}
        with self._log.open("wb") as log:
            return subprocess.Popen(  # noqa: S603
                words,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
            )

    def _wait_until_it_answers(self) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                grpc.channel_ready_future(self._channel).result(timeout=0.2)
            except grpc.FutureTimeoutError:
                continue
            return
        raise TrialError(f"a server for the trials did not start:\n{self._log.read_text()}")

    def _end(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(_DRAIN_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
