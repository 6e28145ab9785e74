"""What Triton's client can ask over HTTP; its answers are compared with those over gRPC."""

from typing import Any

import numpy as np
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

from tests.interop.subject import Subject


class refused:  # noqa: N801
    """A context whose content the server must refuse with a status and a text."""

    def __init__(self, status: str, text: str = "") -> None:
        self._status, self._text = status, text

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        assert isinstance(error, InferenceServerException), f"not refused: {error!r}"
        assert error.status() == self._status, error
        assert self._text in error.message(), error
        return True


def check_http_health_and_metadata(subject: Subject) -> None:
    client = subject.http
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready(subject.model)
    assert client.is_model_ready(subject.model, "1")
    assert not client.is_model_ready("no-such-model")
    assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
    metadata = client.get_model_metadata(subject.model)
    expected = subject.client.get_model_metadata(subject.model)
    for kind in ("inputs", "outputs"):
        assert [(one["name"], one["datatype"], one["shape"]) for one in metadata[kind]] == [
            (one.name, one.datatype, list(one.shape)) for one in getattr(expected, kind)
        ]
    config = client.get_model_config(subject.model, "1")
    assert config["max_batch_size"] > 1
    assert config["input"][0]["dims"] == metadata["inputs"][0]["shape"][1:]


def check_http_infer(subject: Subject) -> None:
    for tensor in (subject.image_input(triton), subject.jpeg_input(triton)):
        result = subject.http.infer(subject.model, [tensor], request_id="7")
        assert result.get_response()["id"] == "7"
        np.testing.assert_array_equal(result.as_numpy("probabilities"), subject.expected())


def check_http_infer_json(subject: Subject) -> None:
    tensor = triton.InferInput("image", list(subject.pixels.shape), "UINT8")
    tensor.set_data_from_numpy(subject.pixels, binary_data=False)
    for binary in (True, False):
        outputs = [triton.InferRequestedOutput("probabilities", binary_data=binary)]
        result = subject.http.infer(subject.model, [tensor], outputs=outputs)
        np.testing.assert_array_equal(result.as_numpy("probabilities"), subject.expected())


def check_http_classification(subject: Subject) -> None:
    for binary in (True, False):
        outputs = [triton.InferRequestedOutput("probabilities", binary_data=binary, class_count=2)]
        best = subject.http.infer(
            subject.model, [subject.image_input(triton)], outputs=outputs
        ).as_numpy("probabilities")
        text = best[0][0].decode() if isinstance(best[0][0], bytes) else best[0][0]
        assert best.shape == (1, 2)
        assert int(text.split(":")[1]) == subject.expected()[0].argmax()


def check_http_parameters_and_compression(subject: Subject) -> None:
    subject.http.infer(
        subject.model,
        [subject.image_input(triton)],
        priority=1,
        timeout=10_000_000,
        headers={"X-Request-Id": "mine"},
        parameters={"team": "vision", "attempt": 1, "retried": False},
    )
    for algorithm in ("gzip", "deflate"):
        result = subject.http.infer(
            subject.model,
            [subject.image_input(triton)],
            request_compression_algorithm=algorithm,
            response_compression_algorithm=algorithm,
        )
        np.testing.assert_array_equal(result.as_numpy("probabilities"), subject.expected())


def check_http_errors(subject: Subject) -> None:
    client = subject.http
    with refused("404", "no-such-model"):
        client.infer("no-such-model", [subject.image_input(triton)])
    with refused("404"):
        client.infer(subject.model, [subject.image_input(triton)], model_version="999")
    with refused("404"):
        client.get_model_metadata("no-such-model")
    wrong = triton.InferInput("image", [1, 2], "UINT8")
    wrong.set_data_from_numpy(np.zeros((1, 2), np.uint8))
    with refused("400", "dimensions"):
        client.infer(subject.model, [wrong])
    damaged = triton.InferInput("encoded_image", [1, 1], "BYTES")
    damaged.set_data_from_numpy(np.array([[b"not an image"]], dtype=object))
    with refused("400", "can be decoded"):
        client.infer(subject.model, [damaged])
    with refused("501", "shared memory"):
        client.get_system_shared_memory_status()
    with refused("501", "shared memory"):
        client.register_system_shared_memory("region", "/region", 100)


def check_http_side_by_side(subject: Subject) -> None:
    def ask(_: int) -> Any:
        return subject.many_http.async_infer(subject.model, [subject.image_input(triton)])

    for answer in [ask(index) for index in range(40)]:
        probabilities = answer.get_result().as_numpy("probabilities")
        np.testing.assert_allclose(probabilities, subject.expected(), atol=1e-6)


def check_http_statistics_and_settings(subject: Subject) -> None:
    def count() -> int:
        [stats] = subject.http.get_inference_statistics(subject.model)["model_stats"]
        return int(stats["inference_stats"]["success"]["count"])

    before = count()
    subject.http.infer(subject.model, [subject.image_input(triton)])
    assert count() == before + 1
    assert subject.http.get_inference_statistics()["model_stats"]
    assert subject.http.get_trace_settings()["trace_level"] == ["OFF"]
    subject.http.update_log_settings({"log_verbose_level": 1})
    assert subject.http.get_log_settings()["log_verbose_level"] == 1
    subject.http.update_log_settings({"log_verbose_level": 0})


def check_http_timeout(subject: Subject) -> None:
    with refused("504"):
        subject.waiting_http.infer(subject.model, [subject.image_input(triton)], timeout=200_000)


def check_http_repository(subject: Subject) -> None:
    client = subject.http

    def states() -> set[tuple[str, str]]:
        return {(one["name"], one["state"]) for one in client.get_model_repository_index()}

    assert (subject.model, "READY") in states()
    client.unload_model(subject.model)
    assert (subject.model, "READY") not in states()
    with refused("503"):
        client.infer(subject.model, [subject.image_input(triton)])
    client.load_model(subject.model)
    assert client.is_model_ready(subject.model)
    with refused("404"):
        client.load_model("no-such-model")
    with refused("400"):
        client.load_model(subject.model, config="{}")
