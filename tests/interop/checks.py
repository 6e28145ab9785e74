"""What Triton's client can ask synchronously, by callback and on a stream."""

import queue
import threading
from typing import Any

import numpy as np
import tritonclient.grpc as triton
from tritonclient.grpc import service_pb2, service_pb2_grpc

from tests.interop.subject import Subject, refused

WAIT_SECONDS = 30.0


def check_health_and_metadata(subject: Subject) -> None:
    client = subject.client
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready(subject.model)
    assert not client.is_model_ready("no-such-model")
    assert "statistics" in client.get_server_metadata().extensions
    metadata = client.get_model_metadata(subject.model, as_json=True)
    assert {one["name"] for one in metadata["inputs"]} == {"image", "encoded_image"}
    assert {one["name"] for one in metadata["outputs"]} == {"probabilities", "logits"}
    config = client.get_model_config(subject.model).config
    assert config.max_batch_size > 1
    assert all(one.optional for one in config.input)


def check_infer_raw(subject: Subject) -> None:
    result = subject.client.infer(subject.model, [subject.image_input()], request_id="7")
    assert result.get_response().id == "7"
    np.testing.assert_allclose(result.as_numpy("probabilities").sum(axis=1), 1, atol=1e-5)
    assert result.as_numpy("logits").shape == result.as_numpy("probabilities").shape


def check_infer_jpeg(subject: Subject) -> None:
    result = subject.client.infer(subject.model, [subject.jpeg_input()])
    np.testing.assert_array_equal(result.as_numpy("probabilities"), subject.expected())


def check_infer_contents(subject: Subject) -> None:
    pixels = service_pb2.ModelInferRequest(model_name=subject.model)
    tensor = pixels.inputs.add(name="image", datatype="UINT8", shape=subject.pixels.shape)
    tensor.contents.uint_contents.extend(subject.pixels.ravel().tolist())
    jpeg = service_pb2.ModelInferRequest(model_name=subject.model)
    tensor = jpeg.inputs.add(name="encoded_image", datatype="BYTES", shape=[1, 1])
    tensor.contents.bytes_contents.append(subject.jpeg)
    with triton.grpc.insecure_channel(subject.address) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        for request in (pixels, jpeg):
            result = triton.InferResult(stub.ModelInfer(request))
            np.testing.assert_array_equal(result.as_numpy("probabilities"), subject.expected())


def check_classification(subject: Subject) -> None:
    outputs = [triton.InferRequestedOutput("probabilities", class_count=2)]
    result = subject.client.infer(subject.model, [subject.image_input()], outputs=outputs)
    best = result.as_numpy("probabilities")
    assert best.shape == (1, 2)
    value, index, label = best[0][0].decode().split(":")
    expected = subject.expected()[0]
    assert int(index) == expected.argmax()
    assert abs(float(value) - expected.max()) < 1e-6
    assert label


def check_parameters(subject: Subject) -> None:
    subject.client.infer(
        subject.model,
        [subject.image_input()],
        priority=1,
        timeout=10_000_000,
        parameters={"team": "vision", "attempt": 1, "retried": False},
    )


def check_errors(subject: Subject) -> None:
    with refused("StatusCode.NOT_FOUND"):
        subject.client.infer("no-such-model", [subject.image_input()])
    with refused("StatusCode.NOT_FOUND"):
        subject.client.infer(subject.model, [subject.image_input()], model_version="999")
    wrong = triton.InferInput("image", [1, 2], "UINT8")
    wrong.set_data_from_numpy(np.zeros((1, 2), np.uint8))
    with refused("StatusCode.INVALID_ARGUMENT"):
        subject.client.infer(subject.model, [wrong])
    damaged = triton.InferInput("encoded_image", [1, 1], "BYTES")
    damaged.set_data_from_numpy(np.array([[b"not an image"]], dtype=object))
    failures = _failures(subject)
    with refused("StatusCode.INVALID_ARGUMENT"):
        subject.client.infer(subject.model, [damaged])
    assert _failures(subject) == failures + 1, "a request that reached the model and failed"
    with refused("StatusCode.UNIMPLEMENTED"):
        subject.client.get_system_shared_memory_status()


def check_compression(subject: Subject) -> None:
    for algorithm in ("gzip", "deflate"):
        result = subject.client.infer(
            subject.model,
            [subject.image_input()],
            compression_algorithm=algorithm,
            headers={"x-response-compression": "gzip"},
        )
        np.testing.assert_array_equal(result.as_numpy("probabilities"), subject.expected())


def check_async_callbacks(subject: Subject) -> None:
    answers: queue.Queue[tuple[Any, Any]] = queue.Queue()
    for _ in range(20):
        subject.client.async_infer(
            subject.model,
            [subject.image_input()],
            lambda result, error: answers.put((result, error)),
        )
    for _ in range(20):
        result, error = answers.get(timeout=WAIT_SECONDS)
        assert error is None, error
        np.testing.assert_allclose(result.as_numpy("probabilities"), subject.expected(), atol=1e-6)


def check_stream(subject: Subject) -> None:
    answers: queue.Queue[tuple[Any, Any]] = queue.Queue()
    with triton.InferenceServerClient(subject.address) as client:
        client.start_stream(lambda result, error: answers.put((result, error)))
        wrong = triton.InferInput("image", [1, 2], "UINT8")
        wrong.set_data_from_numpy(np.zeros((1, 2), np.uint8))
        for tensor in (subject.image_input(), wrong, subject.jpeg_input()):
            client.async_stream_infer(subject.model, [tensor], enable_empty_final_response=True)
        outcomes = [answers.get(timeout=WAIT_SECONDS) for _ in range(3)]
    assert [error is None for _, error in outcomes] == [True, False, True]
    for result in (outcomes[0][0], outcomes[2][0]):
        np.testing.assert_array_equal(result.as_numpy("probabilities"), subject.expected())


def check_statistics(subject: Subject) -> None:
    def counted() -> Any:
        return subject.client.get_inference_statistics(subject.model).model_stats[0]

    before = counted()
    subject.client.infer(subject.model, [subject.image_input()])
    after = counted()
    assert after.inference_count == before.inference_count + 1
    assert after.execution_count == before.execution_count + 1
    stats = after.inference_stats
    for stage in (stats.success, stats.compute_input, stats.compute_infer, stats.compute_output):
        assert stage.count == after.inference_stats.success.count
        assert stage.ns > 0


def _failures(subject: Subject) -> int:
    [stats] = subject.client.get_inference_statistics(subject.model).model_stats
    return int(stats.inference_stats.fail.count)


def check_settings(subject: Subject) -> None:
    client = subject.client
    assert client.get_trace_settings(as_json=True)["settings"]["trace_level"]["value"] == ["OFF"]
    client.update_log_settings({"log_verbose_level": 1})
    assert client.get_log_settings().settings["log_verbose_level"].uint32_param == 1
    client.update_log_settings({"log_verbose_level": 0})
    assert client.get_log_settings().settings["log_verbose_level"].uint32_param == 0


def check_repository(subject: Subject) -> None:
    client = subject.client

    def states() -> set[tuple[str, str]]:
        models = client.get_model_repository_index().models
        return {(one.name, one.state) for one in models}

    assert (subject.model, "READY") in states()
    client.unload_model(subject.model)
    assert (subject.model, "READY") not in states()
    assert not client.is_model_ready(subject.model)
    with refused("StatusCode.UNAVAILABLE"):
        client.infer(subject.model, [subject.image_input()])
    client.load_model(subject.model)
    assert client.is_model_ready(subject.model)
    client.infer(subject.model, [subject.image_input()])
    with refused("StatusCode.NOT_FOUND"):
        client.load_model("no-such-model")
    with refused("StatusCode.INVALID_ARGUMENT"):
        client.load_model(subject.model, config="{}")


def check_client_timeout(subject: Subject) -> None:
    with triton.InferenceServerClient(subject.waiting_address) as client:
        with refused("StatusCode.DEADLINE_EXCEEDED"):
            client.infer(subject.model, [subject.image_input()], client_timeout=0.2)
        with refused("StatusCode.DEADLINE_EXCEEDED"):
            client.infer(subject.model, [subject.image_input()], timeout=200_000)


def check_cancellation(subject: Subject) -> None:
    answered = threading.Event()
    errors = []

    def callback(result: Any, error: Any) -> None:
        errors.append((result, error))
        answered.set()

    with triton.InferenceServerClient(subject.waiting_address) as client:
        before = cancelled_requests(client, subject.model)
        call = client.async_infer(subject.model, [subject.image_input()], callback)
        # A moment for the request to reach the server's queue.
        answered.wait(0.5)
        call.cancel()
        assert answered.wait(WAIT_SECONDS)
        assert "CANCELLED" in str(errors[0][1])
        answered.clear()
        for _ in range(100):
            if cancelled_requests(client, subject.model) > before:
                return
            answered.wait(0.1)
    raise AssertionError("the server did not count the cancelled request")


def cancelled_requests(client: Any, model: str) -> int:
    counted = client.get_inference_statistics(model).model_stats[0]
    return int(counted.response_stats["0"].cancel.count)
