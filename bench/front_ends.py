"""A prototype: processes that speak gRPC, in front of one that has the session.

The front ends hand pictures over in shared memory. It is measured beside one process and beside
workers, and is no part of the product: see docs/decisions/0039-one-process-a-device.md.

    python -m bench.front_ends
"""

import argparse
import contextlib
import os
import re
import signal
import statistics
import sys
import threading
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from bench.document import table, write_document
from bench.h2load import INFER, check_installed, load
from bench.machine import machine
from bench.networks import repository_of_one
from bench.performance import infer_request
from bench.rounds import in_turn
from convd.artifact.bundle import MODEL_FILE
from convd.protos.inference import grpc_service_pb2 as pb
from testbed.server import ServerProcess, environment, free_ports, launched, server_process

RUN = Path("runs/bench")
DOCUMENT = Path("docs/performance-front-ends.md")
NETWORK = "lenet5"
CONCURRENCIES = (16, 64)
WORTH_BUILDING = 1.5

SLOTS = 64
_PORT = re.compile(r"front ends on \S+:(?P<grpc>\d+)")


class Hand:
    """What one front end and the engine hand each other: pictures, answers, and who is next.

    Args:
        shape: Shape of a picture.
        classes: Length of an answer.
    """

    def __init__(self, shape: tuple[int, ...], classes: int) -> None:
        picture_bytes = SLOTS * int(np.prod(shape))
        self._memory = SharedMemory(create=True, size=picture_bytes + SLOTS * (4 * classes))
        buffer = self._memory.buf
        self.pictures: NDArray[np.uint8] = np.ndarray((SLOTS, *shape), np.uint8, buffer)
        self.answers: NDArray[np.float32] = np.ndarray(
            (SLOTS, classes), np.float32, buffer, picture_bytes
        )
        # A pipe carries the numbers of slots: what is written at once is read in order.
        self.asked, self.ask = os.pipe()
        self.answered, self.answer = os.pipe()

    def unlink(self) -> None:
        """Remove the memory's name; whoever has it keeps it."""
        self._memory.unlink()


def _front_end(hand: Hand, port: int) -> None:
    """Speak gRPC, with as little of a server as `bench.yardstick` has."""
    free = deque(range(SLOTS))
    settled = [threading.Lock() for _ in range(SLOTS)]
    for lock in settled:
        lock.acquire()

    def receive() -> None:
        while numbers := os.read(hand.answered, SLOTS):
            for number in numbers:
                settled[number].release()

    def infer(request: pb.ModelInferRequest, context: Any) -> pb.ModelInferResponse:  # noqa: ANN401
        context.time_remaining()
        context.add_callback(list)
        number = free.pop()
        picture = np.frombuffer(request.raw_input_contents[0], np.uint8)
        hand.pictures[number] = picture.reshape(hand.pictures.shape[1:])
        os.write(hand.ask, bytes([number]))
        settled[number].acquire()
        answer = hand.answers[number].tobytes()
        free.append(number)
        response = pb.ModelInferResponse(model_name=request.model_name, model_version="1")
        response.outputs.add(name="probabilities", datatype="FP32", shape=(1, len(answer) // 4))
        response.raw_output_contents.append(answer)
        return response

    threading.Thread(target=receive, daemon=True).start()
    server = grpc.server(ThreadPoolExecutor(SLOTS), options=[("grpc.so_reuseport", 1)])
    service = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name
    handlers = {
        "ModelInfer": grpc.unary_unary_rpc_method_handler(
            infer,
            request_deserializer=pb.ModelInferRequest.FromString,
            response_serializer=pb.ModelInferResponse.SerializeToString,
        )
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
    server.add_registered_method_handlers(service, handlers)  # type: ignore[attr-defined]
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    server.wait_for_termination()


def _engine(hand: Hand, run: Any, lock: threading.Lock) -> None:  # noqa: ANN401
    """Run what one front end asks for, as many rows at once as wait."""
    while numbers := list(os.read(hand.asked, SLOTS)):
        pictures = hand.pictures[numbers]
        with lock:
            hand.answers[numbers] = run(pictures)
        os.write(hand.answer, bytes(numbers))


def serve(model: str, front_ends: int, port: int) -> None:
    """Serve until SIGTERM."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    source, target = session.get_inputs()[0], session.get_outputs()[0]
    hands = [Hand(tuple(source.shape[1:]), target.shape[1]) for _ in range(front_ends)]
    cores = sorted(os.sched_getaffinity(0))
    children = []
    for index, hand in enumerate(hands):
        child = os.fork()
        if not child:
            os.sched_setaffinity(0, {cores[index % len(cores)]})
            _front_end(hand, port)
        children.append(child)
        hand.unlink()
    os.sched_setaffinity(0, {cores[-1]})
    lock = threading.Lock()

    def run(pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        answers: NDArray[np.float32] = session.run([target.name], {source.name: pictures})[0]
        return answers

    for hand in hands:
        threading.Thread(target=_engine, args=(hand, run, lock), daemon=True).start()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    print(f"front ends on 127.0.0.1:{port}", flush=True)
    try:
        signal.pause()
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)


def main() -> None:
    """Measure in turn, and write the page."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--seconds", type=float, default=1.5)
    chosen = options.parse_args()
    check_installed()
    before = machine()
    request = infer_request(NETWORK)
    cores = len(os.sched_getaffinity(0))
    with repository_of_one(RUN / "repository", NETWORK) as repository, contextlib.ExitStack() as on:
        servers: dict[str, ServerProcess] = {}
        for workers in sorted({1, cores}):
            flags = ("--provider", "cpu", "--workers", workers)
            servers[f"convd, {workers} workers" if workers > 1 else "convd"] = on.enter_context(
                server_process(repository, RUN / f"front-ends-{workers}.log", *flags)
            )
        for front_ends in sorted({1, cores}):
            model = repository / NETWORK / "1" / MODEL_FILE
            log = RUN / f"front-ends-prototype-{front_ends}.log"
            words = ["-m", "bench.front_ends", "serve", model, front_ends, *free_ports(1)]
            servers[f"prototype, {front_ends} front ends"] = on.enter_context(
                launched(words, log, _PORT, env=environment())
            )
        rows = []
        for concurrency in CONCURRENCIES:
            rates: dict[str, list[float]] = {name: [] for name in servers}
            for number in range(chosen.rounds + 1):
                for name, server in in_turn(servers.items(), number):
                    seen = load(
                        server.address,
                        INFER,
                        request,
                        concurrency=concurrency,
                        seconds=chosen.seconds,
                    )
                    rates[name].append(seen.requests_per_second)
            one = rates["convd"][1:]
            rows += [
                (
                    concurrency,
                    name,
                    f"{statistics.median(seen[1:]):.0f}",
                    f"{statistics.median(a / b for a, b in zip(seen[1:], one, strict=True)):.2f}",
                )
                for name, seen in rates.items()
            ]
    write_document(
        DOCUMENT,
        "Front ends",
        before,
        "`make bench-front-ends`: LeNet over gRPC, one uint8 tensor a request, clients (h2load) on "
        f"every core, {chosen.rounds} rounds of {chosen.seconds:g} s in turn, medians. The "
        "prototype has no deadlines, admission or metrics.",
        table(["Concurrency", "Server", "Requests a second", "Of convd's"], rows),
        f"It would be worth building from {WORTH_BUILDING:g} times on: "
        "[decision 39](decisions/0039-one-process-a-device.md).",
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        serve(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
    else:
        main()
