"""Loads a server with `convd.v1` requests: a closed loop of callers, or an open loop at a rate.

A closed loop waits for each answer before the next request, and finds out what a server can do. An
open loop sends at its rate whatever the server does, as real callers do, and each request's time
counts from the moment it should have been sent: a slow server cannot hide by slowing its client
("coordinated omission", Tene, 2013).
"""

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import grpc
import numpy as np

from convd.client.connection import Connection
from convd.protos.convd.v1 import classification_pb2 as pb
from convd.protos.convd.v1.classification_pb2_grpc import ClassificationServiceStub

OK = "OK"


@dataclass(frozen=True)
class Sample:
    """One request.

    Attributes:
        started_at: When it was, or should have been, sent; seconds since the load began.
        seconds: How long the answer took.
        code: Name of its gRPC status.
        rows: Images in it.
    """

    started_at: float
    seconds: float
    code: str
    rows: int


@dataclass(frozen=True)
class Workload:
    """What to send, and how.

    Attributes:
        connection: How to reach the server.
        requests: Requests to send in turn.
        seconds: For how long requests are begun.
        concurrency: Callers of the closed loop; ignored where a rate is given.
        rate: Requests in a second, of the open loop; None for the closed one.
        deadline_seconds: Deadline of each request; None for none.
        connections: Connections to spread the requests over.
    """

    connection: Connection
    requests: Sequence[pb.ClassifyRequest]
    seconds: float
    concurrency: int = 16
    rate: float | None = None
    deadline_seconds: float | None = None
    connections: int = 4


def run_workload(workload: Workload) -> list[Sample]:
    """Send the requests and wait for every answer; the samples come in the order of the answers."""
    return asyncio.run(_run(workload))


def random_requests(
    model: str, image_shape: Sequence[int], *, rows: Sequence[int] = (1,), seed: int = 0
) -> list[pb.ClassifyRequest]:
    """Requests with random prepared images, which no decoding is spent on.

    Args:
        model: The model to ask.
        image_shape: Height, width and channels of its input.
        rows: Images of each request.
        seed: Seed of the images.
    """
    generator = np.random.default_rng(seed)
    return [
        pb.ClassifyRequest(
            model=pb.ModelSpec(name=model),
            images=[
                pb.Image(prepared=generator.integers(0, 256, image_shape, np.uint8).tobytes())
                for _ in range(count)
            ],
            top_k=5,
        )
        for count in rows
    ]


async def _run(workload: Workload) -> list[Sample]:
    samples: list[Sample] = []
    requests = itertools.cycle(workload.requests)
    options = [
        # Otherwise channels to one address share one connection.
        ("grpc.use_local_subchannel_pool", 1),
        # A refusal counts as one.
        ("grpc.enable_retries", 0),
    ]
    channels = [workload.connection.open_async(*options) for _ in range(workload.connections)]
    try:
        await asyncio.gather(*(channel.channel_ready() for channel in channels))
        stubs = itertools.cycle([ClassificationServiceStub(channel) for channel in channels])
        began = time.perf_counter()

        async def send(due: float) -> None:
            request = next(requests)
            try:
                await next(stubs).Classify(request, timeout=workload.deadline_seconds)
                code = OK
            except grpc.aio.AioRpcError as error:
                code = error.code().name
            ended = time.perf_counter() - began
            samples.append(Sample(due, ended - due, code, len(request.images)))

        if workload.rate is None:
            await asyncio.gather(
                *(_caller(send, began, workload.seconds) for _ in range(workload.concurrency))
            )
        else:
            await _at_rate(send, began, workload.rate, workload.seconds)
    finally:
        for channel in channels:
            await channel.close(None)
    return samples


async def _caller(send: Callable[[float], Awaitable[None]], began: float, seconds: float) -> None:
    """One caller of a closed loop."""
    while (now := time.perf_counter() - began) < seconds:
        await send(now)


async def _at_rate(
    send: Callable[[float], Awaitable[None]], began: float, rate: float, seconds: float
) -> None:
    """Send at even distances, never waiting for an answer."""
    under_way: set[asyncio.Task[None]] = set()
    for number in range(int(rate * seconds)):
        due = number / rate
        pause = due - (time.perf_counter() - began)
        if pause > 0:
            await asyncio.sleep(pause)
        task = asyncio.ensure_future(send(due))
        under_way.add(task)
        task.add_done_callback(under_way.discard)
    await asyncio.gather(*under_way)
