"""Valid requests, each on a connection of its caller, whose answers are checked to the digit."""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Protocol

import grpc
import numpy as np
from numpy.typing import NDArray

from convd.protos.convd.v1 import classification_pb2 as pb
from convd.protos.convd.v1.classification_pb2_grpc import ClassificationServiceStub
from convd.protos.inference import grpc_service_pb2 as open_inference_pb
from convd.protos.inference.grpc_service_pb2_grpc import GRPCInferenceServiceStub
from tests.soak.ledger import Attempt, Ledger
from tests.soak.models import PICTURES, PREPARED, Models

CLASSIFY = "/convd.v1.ClassificationService/Classify"
INFER = "/inference.GRPCInferenceService/ModelInfer"

RETRIED = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
}
"""What a client may try again: every other code is a fault of its request or of the server."""

RECONNECT_SECONDS = 1.0
"""How long a client tries to connect, and how long it pauses before it tries again. Meanwhile its
calls end with UNAVAILABLE at once."""

ATTEMPT_SECONDS = 5.0
PATIENCE_SECONDS = 30.0
_TOLERANCE = 1e-5


def open_channel(port: int) -> grpc.Channel:
    """A connection of its own; gRPC would make one of all connections to one address."""
    milliseconds = round(1000 * RECONNECT_SECONDS)
    options = [
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.min_reconnect_backoff_ms", milliseconds),
        ("grpc.max_reconnect_backoff_ms", milliseconds),
    ]
    return grpc.insecure_channel(f"127.0.0.1:{port}", options=options)


class ServingProtocol(Protocol):
    """convd's own protocol or the Open Inference one."""

    method: str

    def ask(self, model: str, pictures: list[int]) -> tuple[int, NDArray[np.float32]]:
        """Version that answered, and the probabilities of each picture in label order."""


class Convd:
    """convd's own protocol, with files."""

    method = CLASSIFY

    def __init__(self, channel: grpc.Channel) -> None:
        self._stub = ClassificationServiceStub(channel)

    def ask(self, model: str, pictures: list[int]) -> tuple[int, NDArray[np.float32]]:
        """Ask for all classes."""
        images = [pb.Image(encoded=PICTURES[picture]) for picture in pictures]
        request = pb.ClassifyRequest(model=pb.ModelSpec(name=model), images=images)
        response = self._stub.Classify(request, timeout=ATTEMPT_SECONDS)
        found = np.full((len(pictures), 3), np.nan, np.float32)
        for row, result in zip(found, response.results, strict=True):
            for one in result.classification.classes:
                row[one.index] = one.probability
        return response.model_version, found


class OpenInference:
    """The Open Inference Protocol, with prepared pixels."""

    method = INFER

    def __init__(self, channel: grpc.Channel) -> None:
        self._stub = GRPCInferenceServiceStub(channel)

    def ask(self, model: str, pictures: list[int]) -> tuple[int, NDArray[np.float32]]:
        """Ask for the probabilities as a tensor."""
        pixels = np.stack([PREPARED[picture] for picture in pictures])
        request = open_inference_pb.ModelInferRequest(model_name=model)
        request.inputs.add(name="image", datatype="UINT8", shape=pixels.shape)
        request.outputs.add(name="probabilities")
        request.raw_input_contents.append(pixels.tobytes())
        response = self._stub.ModelInfer(request, timeout=ATTEMPT_SECONDS)
        found = np.frombuffer(response.raw_output_contents[0], np.float32)
        return int(response.model_version), found.reshape(response.outputs[0].shape)


class Caller:
    """Sends valid requests at a pace, and tries again what was cleanly refused.

    Args:
        port: gRPC port of the server.
        protocol: Makes one of the two protocols of a channel.
        model: Which model it asks.
        models: Knows the answers.
        seed: Seed of what it asks.

    Attributes:
        model: Which model it asks.
        problems: Answers that were wrong, refusals that were not clean, and requests that were not
            answered in `PATIENCE_SECONDS`.
        waited_seconds: How long each request took, with all its attempts.
        versions: How often each version answered.
    """

    def __init__(
        self,
        port: int,
        protocol: Callable[[grpc.Channel], ServingProtocol],
        model: str,
        models: Models,
        seed: int,
    ) -> None:
        self._channel = open_channel(port)
        self._protocol = protocol(self._channel)
        self.model = model
        self._models = models
        self._chance = random.Random(seed)
        self.problems: list[str] = []
        self.waited_seconds: list[float] = []
        self.versions = Counter[int]()

    def run(self, ledger: Ledger, stop: threading.Event, interval_seconds: float) -> None:
        """Send requests until told to stop; at most one in each interval."""
        while not stop.is_set():
            started = time.monotonic()
            self._request(ledger)
            ended = time.monotonic()
            self.waited_seconds.append(ended - started)
            stop.wait(max(0.0, started + interval_seconds * self._chance.uniform(0.5, 1.5) - ended))

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def _request(self, ledger: Ledger) -> None:
        pictures = self._chance.choices(range(len(PICTURES)), k=self._chance.choice((1, 1, 2, 4)))
        until = time.monotonic() + PATIENCE_SECONDS
        pause_seconds = 0.05
        while True:
            started = time.monotonic()
            code = grpc.StatusCode.OK
            try:
                version, found = self._protocol.ask(self.model, pictures)
                self._check(version, found, pictures)
            except grpc.RpcError as error:
                code = error.code()
                if code not in RETRIED:
                    self.problems.append(f"{self.model}: {code.name}: {error.details()}")
                elif time.monotonic() > until:
                    self.problems.append(f"{self.model}: still {code.name}: {error.details()}")
                else:
                    ledger.note(self._attempt(code, started))
                    time.sleep(pause_seconds)
                    pause_seconds = min(2 * pause_seconds, 1.0)
                    continue
            ledger.note(self._attempt(code, started))
            return

    def _attempt(self, code: grpc.StatusCode, started: float) -> Attempt:
        key = (self.model, self._protocol.method, code.name)
        return Attempt(key, started, time.monotonic())

    def _check(self, version: int, found: NDArray[np.float32], pictures: list[int]) -> None:
        self.versions[version] += 1
        expected = self._models.answer(version)[pictures]
        if found.shape != expected.shape or not np.abs(found - expected).max() <= _TOLERANCE:
            self.problems.append(f"{self.model} version {version} did not compute this answer")
