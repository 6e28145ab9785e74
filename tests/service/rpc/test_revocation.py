"""What a change of the file of principals means to a stream in progress."""

import queue
from pathlib import Path
from typing import Any

import grpc

from convd.protos.inference import grpc_service_pb2 as infer_pb
from convd.protos.inference.grpc_service_pb2_grpc import GRPCInferenceServiceStub
from testbed.principals import bearer, write_principals
from tests.support import code_of, running_server, wait_until


def test_a_stream_ends_with_the_rights_of_its_principal(repository: Path, tmp_path: Path) -> None:
    path = tmp_path / "principals.json"
    token = write_principals(path, {"lab": ["infer:digits"]})["lab"]
    messages: queue.SimpleQueue[infer_pb.ModelInferRequest | None] = queue.SimpleQueue()
    message = infer_pb.ModelInferRequest(model_name="digits")
    unauthenticated = grpc.StatusCode.UNAUTHENTICATED
    with running_server(repository, principals=path) as client:
        stub = GRPCInferenceServiceStub(client.channel)
        answers: Any = stub.ModelStreamInfer(
            iter(messages.get, None), metadata=bearer(token), timeout=30
        )
        messages.put(message)
        next(answers)
        write_principals(path, {"another": ["infer:digits"]})
        wait_until(
            lambda: code_of(lambda: client.classify(metadata=bearer(token)))[0] is unauthenticated
        )
        messages.put(message)
        assert code_of(lambda: next(answers))[0] is grpc.StatusCode.PERMISSION_DENIED
        messages.put(None)
