"""Minimal servers that convd is measured against; each answers ModelInfer with one session.

`echo` parses a request and returns a constant answer: what gRPC itself costs. `runner` is the least
that a server with batching does: an interceptor reads metadata, deadline and cancellation, the rows
go to a queue, and one thread runs all that waits. Both have gRPC's settings as convd sets them, and
nothing else of it: no deadlines, priorities, admission, metrics or errors.

    python -m bench.yardstick MODE MODEL.onnx
"""

import collections
import contextlib
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from convd.protos.inference import grpc_service_pb2 as pb
from testbed.server import ServerProcess, environment, launched

THREADS = 64
MAX_BATCH_SIZE = 32
_PORT = re.compile(r"yardstick on \S+:(?P<grpc>\d+)")

Rows = NDArray[np.uint8]
Answer = NDArray[np.float32]


@contextlib.contextmanager
def yardstick(
    mode: str, model: Path, log: Path, *, cores: set[int] | None = None
) -> Iterator[ServerProcess]:
    """Run a minimal server in a process of its own until the block ends.

    Args:
        mode: `echo` or `runner`.
        model: An artifact's ONNX file.
        log: Where its log goes.
        cores: The cores that it may run on; None for all.
    """
    words = ["-m", "bench.yardstick", mode, model]
    env = environment() | {"GRPC_EXPERIMENTS": "-event_engine_listener"}
    with launched(words, log, _PORT, env=env, cores=cores) as server:
        yield server


class _Waiting:
    __slots__ = ("answer", "answered", "rows")

    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        self.answer: Answer | None = None
        self.answered = threading.Lock()
        self.answered.acquire()


class _Runner:
    """A queue, and a thread that takes all that waits."""

    def __init__(self, run: Callable[[Rows], Answer]) -> None:
        self._run = run
        self._queue: collections.deque[_Waiting] = collections.deque()
        self._lock = threading.Lock()
        self._asleep = True
        self._wake = threading.Lock()
        self._wake.acquire()
        threading.Thread(target=self._loop, daemon=True).start()

    def submit(self, rows: Rows) -> Answer:
        waiting = _Waiting(rows)
        with self._lock:
            self._queue.append(waiting)
            if self._asleep:
                self._asleep = False
                self._wake.release()
        waiting.answered.acquire()
        assert waiting.answer is not None  # noqa: S101
        return waiting.answer

    def _loop(self) -> None:
        company = False
        while True:
            with self._lock:
                self._asleep = not self._queue
            if self._asleep:
                self._wake.acquire()
                continue
            if company:
                os.sched_yield()
            batch: list[_Waiting] = []
            with self._lock:
                while self._queue and len(batch) < MAX_BATCH_SIZE:
                    batch.append(self._queue.popleft())
            company = len(batch) > 1
            arrays = [waiting.rows for waiting in batch]
            answers = self._run(np.concatenate(arrays) if company else arrays[0])
            start = 0
            for waiting in batch:
                waiting.answer = answers[start : start + len(waiting.rows)]
                start += len(waiting.rows)
                waiting.answered.release()


def _infer(
    submit: Callable[[Rows], Answer], shape: tuple[int, ...]
) -> Callable[[pb.ModelInferRequest, grpc.ServicerContext], pb.ModelInferResponse]:
    def infer(
        request: pb.ModelInferRequest,
        context: grpc.ServicerContext,  # noqa: ARG001
    ) -> pb.ModelInferResponse:
        rows = np.frombuffer(request.raw_input_contents[0], np.uint8).reshape(-1, *shape)
        answer = submit(rows)
        response = pb.ModelInferResponse(
            model_name=request.model_name, model_version="1", id=request.id
        )
        response.outputs.add(name="probabilities", datatype="FP32", shape=answer.shape)
        response.raw_output_contents.append(answer.tobytes())
        return response

    return infer


class _Interceptor(grpc.ServerInterceptor):  # type: ignore[type-arg]
    """Reads of each call what any server with deadlines has to read."""

    def __init__(self) -> None:
        self._wrapped: dict[str, Any] = {}

    def intercept_service(self, continuation: Any, details: grpc.HandlerCallDetails) -> Any:  # noqa: ANN401
        if details.method not in self._wrapped:
            handler = continuation(details)
            work = handler.unary_unary

            def answer(request: Any, context: Any) -> Any:  # noqa: ANN401
                dict(context.invocation_metadata())
                context.time_remaining()
                context.add_callback(list)
                return work(request, context)

            self._wrapped[details.method] = grpc.unary_unary_rpc_method_handler(
                answer, handler.request_deserializer, handler.response_serializer
            )
        return self._wrapped[details.method]


def main() -> None:
    """Serve until SIGTERM."""
    mode, model = sys.argv[1:]
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    source = session.get_inputs()[0]

    def run(rows: Rows) -> Answer:
        answer: Answer = session.run(["probabilities"], {source.name: rows})[0]
        return answer

    shape = tuple(source.shape[1:])
    for rows in range(1, MAX_BATCH_SIZE + 1):
        constant = run(np.zeros((rows, *shape), np.uint8))[:1]
    submit = _Runner(run).submit if mode == "runner" else lambda _: constant
    server = grpc.server(
        ThreadPoolExecutor(THREADS),
        interceptors=[_Interceptor()] if mode == "runner" else [],
        options=[("grpc.max_receive_message_length", -1)],
    )
    handlers = {
        "ModelInfer": grpc.unary_unary_rpc_method_handler(
            _infer(submit, shape),
            request_deserializer=pb.ModelInferRequest.FromString,
            response_serializer=pb.ModelInferResponse.SerializeToString,
        )
    }
    service = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
    # As generated code does: gRPC finds the methods that it knows faster.
    server.add_registered_method_handlers(service, handlers)  # type: ignore[attr-defined]
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(f"yardstick on 127.0.0.1:{port}", flush=True)
    signal.signal(signal.SIGTERM, lambda *_: server.stop(0))
    server.wait_for_termination()


if __name__ == "__main__":
    main()
