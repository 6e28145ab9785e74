"""A closed loop of callers, each of which checks every answer it gets."""

import functools
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import grpc
import numpy as np
from numpy.typing import NDArray

from convd.protos.convd.v1 import classification_pb2 as pb
from convd.protos.convd.v1.classification_pb2_grpc import ClassificationServiceStub

RETRY_POLICY = """{"methodConfig": [{"name": [{"service": "convd.v1.ClassificationService"}],
  "waitForReady": true,
  "retryPolicy": {"maxAttempts": 5, "initialBackoff": "0.05s", "maxBackoff": "1s",
                  "backoffMultiplier": 2, "retryableStatusCodes": ["UNAVAILABLE"]}}]}"""
"""What a client needs so that nobody notices the death of a worker."""

NO_RETRIES = """{"methodConfig": [{"name": [{"service": "convd.v1.ClassificationService"}],
  "waitForReady": true}]}"""
"""Calls wait for a connection, and what is lost on one is lost."""

OWN_CONNECTION = ("grpc.use_local_subchannel_pool", 1)
"""The option of a channel without which all of them to one address share one connection."""

_TOLERANCE = 1e-4


def plain_channel(port: int, *, retry: bool = False) -> Callable[[], grpc.Channel]:
    """Opens connections to a server on loopback.

    Args:
        port: Its gRPC port.
        retry: Whether the client tries again what was UNAVAILABLE.
    """
    options: list[tuple[str, str | int]] = [
        OWN_CONNECTION,
        ("grpc.service_config", RETRY_POLICY if retry else NO_RETRIES),
    ]
    return functools.partial(grpc.insecure_channel, f"127.0.0.1:{port}", options=options)


@dataclass(frozen=True)
class Call:
    """One call.

    Attributes:
        ended_at: When it ended, in seconds of `time.monotonic`.
        seconds: How long it took.
        version: The version that says it answered; 0 for none.
        problem: What was wrong; empty for nothing.
    """

    ended_at: float
    seconds: float
    version: int
    problem: str


class ClosedLoop:
    """Callers that ask again as soon as they are answered.

    Args:
        open_channel: Opens a connection.
        request: What they ask.
        expected: The probabilities of each version, by label order.
        callers: How many callers.
        connections: How many connections they share.
    """

    def __init__(
        self,
        open_channel: Callable[[], grpc.Channel],
        request: pb.ClassifyRequest,
        expected: Callable[[int], NDArray[np.float32]],
        *,
        callers: int = 32,
        connections: int = 8,
    ) -> None:
        self.calls: list[Call] = []
        self._request = request
        self._expected = expected
        self._stop = threading.Event()
        self._channels = [open_channel() for _ in range(connections)]
        self._threads = [
            threading.Thread(target=self._ask, args=(self._channels[number % connections],))
            for number in range(callers)
        ]

    def __enter__(self) -> "ClosedLoop":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        for channel in self._channels:
            channel.close()

    def between(self, start: float, end: float) -> list[Call]:
        """Calls that ended in a span of `time.monotonic`."""
        return [call for call in list(self.calls) if start <= call.ended_at < end]

    def _ask(self, channel: grpc.Channel) -> None:
        stub = ClassificationServiceStub(channel)
        while not self._stop.is_set():
            started = time.monotonic()
            version, problem = 0, ""
            try:
                response = stub.Classify(self._request, timeout=30)
                version = response.model_version
                problem = self._check(response)
            except grpc.RpcError as error:
                problem = f"{error.code().name}: {error.details()}"
            ended = time.monotonic()
            self.calls.append(Call(ended, ended - started, version, problem))

    def _check(self, response: pb.ClassifyResponse) -> str:
        classes = response.results[0].classification.classes
        found = np.zeros(len(classes), np.float32)
        for one in classes:
            found[one.index] = one.probability
        expected = self._expected(response.model_version)
        if found.shape != expected.shape or np.abs(found - expected).max() > _TOLERANCE:
            return f"version {response.model_version} did not compute this answer"
        return ""


def percentile(calls: Sequence[Call], percent: float) -> float:
    """Percentile of the durations, in milliseconds."""
    return float(np.percentile([1000 * call.seconds for call in calls], percent))
