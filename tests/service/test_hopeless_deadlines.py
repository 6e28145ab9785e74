"""Deadlines that the engine cannot keep, over gRPC: nobody is run who has gone."""

import threading
import time
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from numpy.typing import NDArray

from convd.artifact.graph_contract import OutputArrays
from convd.protos.convd.v1 import classification_pb2 as pb
from convd.runtime.session import Session
from tests.support import running_server

REQUESTS = 200
DEADLINE_SECONDS = 0.05
ENGINE_SECONDS = 0.1
# Between the forming of a batch and the first line of the engine a thread may have to wait.
GRACE_SECONDS = 0.03


class SlowEngine:
    """Makes each batch take its time, and notes who is in it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.slow = False
        self.started_at: dict[int, float] = {}
        run = Session.run

        def run_slowly(session: Session, images: NDArray[np.uint8], *special: Any) -> OutputArrays:
            if self.slow:
                now = time.monotonic()
                self.started_at.update((int(image.flat[0]), now) for image in images)
                time.sleep(ENGINE_SECONDS)
            return run(session, images, *special)

        monkeypatch.setattr(Session, "run", run_slowly)


def test_200_hopeless_requests_end_in_time_and_none_runs_after_its_end(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = SlowEngine(monkeypatch)
    ended_at: dict[int, float] = {}
    codes: dict[int, grpc.StatusCode] = {}
    all_ended = threading.Event()
    with running_server(repository) as client:
        model = pb.ModelSpec(name="digits")
        height, width, channels = client.stub.GetModel(pb.GetModelRequest(model=model)).input_shape
        engine.slow = True

        def send(index: int) -> None:
            image = np.full((height, width, channels), index, np.uint8).tobytes()
            request = pb.ClassifyRequest(model=model, images=[pb.Image(prepared=image)])

            def note_end(call: Any) -> None:
                ended_at[index] = time.monotonic()
                codes[index] = call.code()
                if len(codes) == REQUESTS:
                    all_ended.set()

            call = client.stub.Classify.future(request, timeout=DEADLINE_SECONDS)
            call.add_done_callback(note_end)

        for index in range(REQUESTS):
            send(index)
        assert all_ended.wait(30)
        engine.slow = False
    assert set(codes.values()) <= {grpc.StatusCode.OK, grpc.StatusCode.DEADLINE_EXCEEDED}
    assert engine.started_at, "the first of them found the engine idle"
    late = {
        index: started_at - ended_at[index]
        for index, started_at in engine.started_at.items()
        if started_at > ended_at[index] + GRACE_SECONDS
    }
    assert late == {}
