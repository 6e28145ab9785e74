"""Waiting, leaving and sizes of messages, over a real server on loopback."""

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from convd.protos.inference import grpc_service_pb2 as pb
from convd.protos.inference.grpc_service_pb2_grpc import GRPCInferenceServiceStub
from tests.service.protocols.open_inference.requests import raw_image_request
from tests.support import Client, code_of, running_server, wait_until

Stub = GRPCInferenceServiceStub


def statistics(stub: Stub) -> pb.ModelStatistics:
    (counted,) = stub.ModelStatistics(pb.ModelStatisticsRequest(name="pets")).model_stats
    return counted


@pytest.fixture(scope="module")
def waiting_server(pets: Path) -> Iterator[Client]:
    """A server where a lone request waits long for company, and little else may wait."""
    with running_server(
        pets, max_queue_delay_seconds=30.0, max_queue_size=4, max_images_per_request=4
    ) as client:
        yield client


def test_timeout_is_honoured(waiting_server: Client) -> None:
    request = raw_image_request()
    request.parameters["timeout"].int64_param = 50_000
    code, _ = code_of(lambda: Stub(waiting_server.channel).ModelInfer(request))
    assert code is grpc.StatusCode.DEADLINE_EXCEEDED


def test_cancellation_leaves_the_queue_and_is_counted(waiting_server: Client) -> None:
    stub = Stub(waiting_server.channel)
    before = statistics(stub)
    call = stub.ModelInfer.future(raw_image_request())
    queued = 'convd_queue_rows{model="pets",version="1"} 1.0'
    wait_until(lambda: queued in waiting_server.get("/metrics")[1])
    call.cancel()  # type: ignore[no-untyped-call]
    cancelled = before.response_stats["0"].cancel.count + 1
    wait_until(lambda: statistics(stub).response_stats["0"].cancel.count == cancelled)
    assert statistics(stub).execution_count == before.execution_count


def test_a_full_queue_refuses(waiting_server: Client) -> None:
    stub = Stub(waiting_server.channel)
    waiting = stub.ModelInfer.future(raw_image_request(rows=4))
    queued = 'convd_queue_rows{model="pets",version="1"} 4.0'
    wait_until(lambda: queued in waiting_server.get("/metrics")[1])
    code, _ = code_of(lambda: stub.ModelInfer(raw_image_request()))
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    waiting.cancel()  # type: ignore[no-untyped-call]


def test_gzip_both_ways(server: Client) -> None:
    metadata = (("x-response-compression", "gzip"),)
    request = raw_image_request()
    request.id = "a" * 10_000
    address = f"127.0.0.1:{server.grpc_port}"
    options = [("grpc.max_receive_message_length", 1000)]
    with grpc.insecure_channel(address, options) as channel:
        stub = Stub(channel)
        gzip = grpc.Compression.Gzip
        # The client checks its limit on both sides of decompression, and so tells what it got.
        assert "Received message larger" in code_of(lambda: stub.ModelInfer(request))[1]
        packed = code_of(lambda: stub.ModelInfer(request, compression=gzip, metadata=metadata))
        assert "Decompressed message larger" in packed[1]
    with grpc.insecure_channel(address) as channel:
        stub = Stub(channel)
        answer = stub.ModelInfer(request, compression=gzip, metadata=metadata)
        assert answer.id == request.id


def test_message_limit_holds_for_what_comes_out_of_gzip(pets: Path) -> None:
    with running_server(pets, max_message_bytes=100_000) as client:
        stub = Stub(client.channel)
        request = raw_image_request()
        request.id = "a" * 50_000
        assert stub.ModelInfer(request).id == request.id
        request.id = "a" * 200_000
        for compression in (None, grpc.Compression.Gzip):
            code, _ = code_of(lambda: stub.ModelInfer(request, compression=compression))  # noqa: B023
            assert code is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_messages_over_four_mebibytes_pass_by_default(stub: Stub) -> None:
    request = raw_image_request()
    request.id = "a" * (5 * 1024 * 1024)
    with pytest.raises(grpc.RpcError) as refused:
        stub.ModelInfer(request)
    # It is this client's own limit that the answer meets.
    assert "CLIENT: Received message larger than max" in str(refused.value)


def test_an_answer_larger_than_a_message_is_refused_before_the_work(pets: Path) -> None:
    with running_server(pets, max_message_bytes=4096, max_images_per_request=200) as client:
        stub = Stub(client.channel)
        request = raw_image_request(rows=50)
        # As tensors, its outputs take 1,200 bytes; as text, many more.
        assert stub.ModelInfer(request).outputs
        for name in ("probabilities", "logits"):
            request.outputs.add(name=name).parameters["classification"].int64_param = 3
        before = statistics(stub).inference_count
        code, text = code_of(lambda: stub.ModelInfer(request))
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert "--max-message-bytes" in text
        assert statistics(stub).inference_count == before
