"""Triton's own client, unchanged, against a server at a given address.

Runs in the environment of requirements.txt beside it, without convd's packages. The model has to
take pictures of its own size as they are. The second address is that of a server on which a lone
request waits for long, so that there is something to cancel.
"""

import argparse
import asyncio
import io
import queue
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import numpy as np
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from PIL import Image
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import InferenceServerException

WAIT_SECONDS = 30.0


class Subject:
    """The server under test, and one picture in every form that it takes.

    Args:
        address: The server.
        waiting_address: The server on which a lone request waits.
        model: Name of a model that both have.
    """

    def __init__(self, address: str, waiting_address: str, model: str) -> None:
        self.address = address
        self.waiting_address = waiting_address
        self.model = model
        self.client = triton.InferenceServerClient(address)
        metadata = self.client.get_model_metadata(model)
        shape = tuple(next(one.shape for one in metadata.inputs if one.name == "image"))[1:]
        picture = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
        file = io.BytesIO()
        Image.fromarray(picture.squeeze()).save(file, "JPEG", quality=90)
        self.jpeg = file.getvalue()
        self.pixels = np.asarray(Image.open(io.BytesIO(self.jpeg))).reshape(1, *shape)

    def image_input(self, module: Any = triton) -> Any:
        """The picture as UINT8 pixels."""
        tensor = module.InferInput("image", list(self.pixels.shape), "UINT8")
        tensor.set_data_from_numpy(self.pixels)
        return tensor

    def jpeg_input(self, module: Any = triton) -> Any:
        """The picture as the BYTES of a JPEG."""
        tensor = module.InferInput("encoded_image", [1, 1], "BYTES")
        tensor.set_data_from_numpy(np.array([[self.jpeg]], dtype=np.object_))
        return tensor

    def expected(self) -> Any:
        """The probabilities that every way has to give, bit for bit."""
        return self.client.infer(self.model, [self.image_input()]).as_numpy("probabilities")


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
    assert stats.fail.count > 0


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
    assert (subject.model, "UNAVAILABLE") in states()
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


async def check_asyncio(subject: Subject) -> None:
    async with triton_aio.InferenceServerClient(subject.address) as client:
        assert await client.is_server_ready()
        assert (await client.get_model_metadata(subject.model)).name == subject.model
        results = await asyncio.gather(
            *(
                client.infer(subject.model, [make(triton_aio)])
                for make in (subject.image_input, subject.jpeg_input)
                for _ in range(10)
            )
        )
        for result in results:
            np.testing.assert_allclose(
                result.as_numpy("probabilities"), subject.expected(), atol=1e-6
            )


async def check_asyncio_stream(subject: Subject) -> None:
    async def requests() -> AsyncIterator[dict[str, Any]]:
        for make in (subject.image_input, subject.jpeg_input):
            yield {"model_name": subject.model, "inputs": [make(triton_aio)]}

    async with triton_aio.InferenceServerClient(subject.address) as client:
        answers = [answer async for answer in client.stream_infer(requests())]
    assert len(answers) == 2
    for result, error in answers:
        assert error is None
        np.testing.assert_array_equal(result.as_numpy("probabilities"), subject.expected())


async def check_asyncio_cancellation(subject: Subject) -> None:
    async with triton_aio.InferenceServerClient(subject.waiting_address) as client:
        task = asyncio.create_task(client.infer(subject.model, [subject.image_input(triton_aio)]))
        await asyncio.sleep(0.3)
        assert task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            return
    raise AssertionError("the cancelled request was answered")


CHECKS: tuple[Callable[[Subject], Coroutine[Any, Any, None] | None], ...] = (
    check_health_and_metadata,
    check_infer_raw,
    check_infer_jpeg,
    check_infer_contents,
    check_classification,
    check_parameters,
    check_errors,
    check_compression,
    check_async_callbacks,
    check_stream,
    check_statistics,
    check_settings,
    check_client_timeout,
    check_cancellation,
    check_asyncio,
    check_asyncio_stream,
    check_asyncio_cancellation,
    # Last, since it takes the model away for a moment.
    check_repository,
)


class refused:  # noqa: N801
    """A context whose content the server must refuse with a status."""

    def __init__(self, status: str) -> None:
        self._status = status

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        assert isinstance(error, InferenceServerException), f"not refused: {error!r}"
        assert error.status() == self._status, error
        assert error.message()
        return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("address")
    parser.add_argument("waiting_address")
    parser.add_argument("model")
    subject = Subject(**vars(parser.parse_args()))
    for check in CHECKS:
        outcome = check(subject)
        if outcome is not None:
            asyncio.run(outcome)
        print(f"ok  {check.__name__.removeprefix('check_')}", flush=True)


if __name__ == "__main__":
    main()
