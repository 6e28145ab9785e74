"""convd's own API over a real server on loopback."""

from pathlib import Path

import grpc
import numpy as np
import onnxruntime as ort
import pytest

from convd.artifact.bundle import MODEL_FILE
from convd.artifact.preprocessing import prepare_image
from convd.protos.convd.v1 import classification_pb2 as pb
from convd.runtime.cpu import CPU
from tests.digits import Digits
from tests.support import Client, add_version, png, running_server, wait_until


def digit(digits: Digits, index: int = 0) -> bytes:
    return png(digits.picture(index))


def probabilities(result: pb.ImageResult) -> np.ndarray:
    """Probabilities in label order."""
    classes = sorted(result.classification.classes, key=lambda one: one.index)
    return np.array([one.probability for one in classes])


def failure(client: Client, request: pb.ClassifyRequest) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as caught:
        client.stub.Classify(request, timeout=30)
    return caught.value.code(), caught.value.details() or ""


def test_answers_equal_the_graphs_on_a_hundred_held_out_images(
    client: Client, published: Path, digits: Digits
) -> None:
    graph = ort.InferenceSession(published / MODEL_FILE, providers=[CPU.name])
    for start in range(0, 100, 10):
        pictures = [digits.picture(index) for index in range(start, start + 10)]
        response = client.classify(*map(png, pictures))
        images = np.stack([prepare_image(one, digits.preprocessing) for one in pictures])
        (expected,) = graph.run(["probabilities"], {"image": images})
        for result, row in zip(response.results, expected, strict=True):
            found = probabilities(result)
            assert abs(found.sum() - 1) < 1e-5
            assert np.abs(found - row).max() < 1e-5


def test_classes_come_best_first_with_their_labels(client: Client, digits: Digits) -> None:
    response = client.classify(digit(digits), top_k=0)
    assert (response.model_name, response.model_version) == ("digits", 1)
    classes = response.results[0].classification.classes
    assert len(classes) == 10
    assert [one.label for one in classes] == [digits.labels[one.index] for one in classes]
    assert [one.probability for one in classes] == sorted(
        (one.probability for one in classes), reverse=True
    )


@pytest.mark.parametrize(("top_k", "expected"), [(1, 1), (3, 3), (10, 10), (99, 10), (0, 10)])
def test_top_k_cuts_the_classes(client: Client, digits: Digits, top_k: int, expected: int) -> None:
    everything = client.classify(digit(digits)).results[0].classification.classes
    cut = client.classify(digit(digits), top_k=top_k).results[0].classification.classes
    assert list(cut) == list(everything[:expected])


def test_the_three_ways_to_give_an_image_give_one_answer(client: Client, digits: Digits) -> None:
    picture = digits.picture(3)
    pixels = pb.Pixels(
        height=picture.height, width=picture.width, channels=1, data=picture.tobytes()
    )
    prepared = prepare_image(picture, digits.preprocessing).tobytes()
    images = [pb.Image(encoded=png(picture)), pb.Image(pixels=pixels), pb.Image(prepared=prepared)]
    request = pb.ClassifyRequest(model=pb.ModelSpec(name="digits"), images=images)
    results = client.stub.Classify(request, timeout=30).results
    assert results[0] == results[1] == results[2]


def test_one_bad_image_answers_its_own_error_and_the_others_their_results(
    client: Client, digits: Digits
) -> None:
    good = digit(digits)
    response = client.classify(good, b"no image", good, b"")
    outcomes = [result.WhichOneof("outcome") for result in response.results]
    assert outcomes == ["classification", "error", "classification", "error"]
    assert response.results[0] == response.results[2]
    error = response.results[1].error
    assert error.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    assert "send a JPEG, PNG, WebP or BMP" in error.message


def test_an_image_without_a_source_fails_alone(client: Client, digits: Digits) -> None:
    good = pb.Image(encoded=digit(digits))
    request = pb.ClassifyRequest(
        model=pb.ModelSpec(name="digits"), images=[good, pb.Image(), good], top_k=1
    )
    results = client.stub.Classify(request, timeout=30).results
    outcomes = [result.WhichOneof("outcome") for result in results]
    assert outcomes == ["classification", "error", "classification"]
    assert results[1].error.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    assert "set encoded, pixels or prepared" in results[1].error.message


def test_more_images_than_one_batch_are_answered_in_order(client: Client, digits: Digits) -> None:
    images = [digit(digits, index) for index in range(50)]
    together = client.classify(*images).results
    alone = [client.classify(image).results[0] for image in images]
    for one, other in zip(together, alone, strict=True):
        assert np.abs(probabilities(one) - probabilities(other)).max() < 1e-6


@pytest.mark.parametrize(
    ("request_message", "code", "text"),
    [
        (
            pb.ClassifyRequest(
                model=pb.ModelSpec(name="digits"), images=[pb.Image(encoded=b"corrupt")]
            ),
            grpc.StatusCode.INVALID_ARGUMENT,
            "send a JPEG, PNG, WebP or BMP",
        ),
        (
            pb.ClassifyRequest(model=pb.ModelSpec(name="digits")),
            grpc.StatusCode.INVALID_ARGUMENT,
            "send at least one",
        ),
        (
            pb.ClassifyRequest(images=[pb.Image(encoded=b"x")]),
            grpc.StatusCode.INVALID_ARGUMENT,
            "set model.name",
        ),
        (
            pb.ClassifyRequest(
                model=pb.ModelSpec(name="cats\n\0" + "x" * 20_000), images=[pb.Image(encoded=b"x")]
            ),
            grpc.StatusCode.NOT_FOUND,
            "the models are: digits",
        ),
        (
            pb.ClassifyRequest(
                model=pb.ModelSpec(name="digits", version=7), images=[pb.Image(encoded=b"x")]
            ),
            grpc.StatusCode.NOT_FOUND,
            "it has: 1",
        ),
        (
            pb.ClassifyRequest(
                model=pb.ModelSpec(name="digits", version=-7), images=[pb.Image(encoded=b"x")]
            ),
            grpc.StatusCode.INVALID_ARGUMENT,
            "versions start at 1",
        ),
        (
            pb.ClassifyRequest(
                model=pb.ModelSpec(name="digits"), images=[pb.Image(encoded=b"x")], top_k=-1
            ),
            grpc.StatusCode.INVALID_ARGUMENT,
            "or 0 for all",
        ),
        (
            pb.ClassifyRequest(
                model=pb.ModelSpec(name="digits"), images=[pb.Image(encoded=b"x")] * 10_000
            ),
            grpc.StatusCode.INVALID_ARGUMENT,
            "over the limit of 256",
        ),
        (
            pb.ClassifyRequest(model=pb.ModelSpec(name="digits"), images=[pb.Image()]),
            grpc.StatusCode.INVALID_ARGUMENT,
            "set encoded, pixels or prepared",
        ),
        (
            pb.ClassifyRequest(
                model=pb.ModelSpec(name="digits"), images=[pb.Image(prepared=b"short")]
            ),
            grpc.StatusCode.INVALID_ARGUMENT,
            "32 x 32 x 1 = 1024 bytes, not 5",
        ),
    ],
)
def test_bad_requests_get_a_clear_status_and_the_server_goes_on(
    client: Client,
    digits: Digits,
    request_message: pb.ClassifyRequest,
    code: grpc.StatusCode,
    text: str,
) -> None:
    found_code, found_text = failure(client, request_message)
    assert (found_code, text in found_text) == (code, True), found_text
    assert len(client.classify(digit(digits)).results) == 1


def test_a_stream_answers_in_order_and_goes_on_after_an_error(
    client: Client, digits: Digits
) -> None:
    def message(number: int) -> pb.ClassifyStreamRequest:
        image = b"corrupt" if number == 2 else digit(digits, number)
        request = pb.ClassifyRequest(
            model=pb.ModelSpec(name="digits"), images=[pb.Image(encoded=image)]
        )
        return pb.ClassifyStreamRequest(id=f"image-{number}", request=request)

    answers = list(client.stub.ClassifyStream(map(message, range(5)), timeout=30))
    assert [answer.id for answer in answers] == [f"image-{number}" for number in range(5)]
    assert [answer.WhichOneof("outcome") for answer in answers] == [
        "response",
        "response",
        "error",
        "response",
        "response",
    ]
    assert answers[4].response.results == client.classify(digit(digits, 4)).results


def test_models_are_listed_and_described(client: Client, digits: Digits) -> None:
    (listed,) = client.stub.ListModels(pb.ListModelsRequest(), timeout=10).models
    assert (listed.name, listed.version, listed.classes) == ("digits", 1, 10)
    assert listed.state == pb.ModelVersion.STATE_AVAILABLE
    assert listed.HasField("accuracy")
    assert listed.golden_difference < 1e-5
    request = pb.GetModelRequest(model=pb.ModelSpec(name="digits"))
    described = client.stub.GetModel(request, timeout=10)
    assert described.model == listed
    assert tuple(described.labels) == digits.labels
    assert list(described.input_shape) == [32, 32, 1]


def test_the_request_id_comes_back(client: Client, digits: Digits) -> None:
    request = pb.ClassifyRequest(
        model=pb.ModelSpec(name="digits"), images=[pb.Image(encoded=digit(digits))]
    )
    metadata = (("x-request-id", "mine"),)
    _, call = client.stub.Classify.with_call(request, timeout=30, metadata=metadata)
    assert ("x-request-id", "mine") in [tuple(one) for one in call.trailing_metadata()]


def test_a_label_answers_for_its_version(repository: Path, published: Path, digits: Digits) -> None:
    add_version(repository, "digits", published)
    (repository / "digits" / "config.yaml").write_text("labels: {stable: 1, canary: 2}")
    image = pb.Image(encoded=digit(digits))
    with running_server(repository) as client:
        for label, version in {"stable": 1, "canary": 2}.items():
            spec = pb.ModelSpec(name="digits", version_label=label)
            request = pb.ClassifyRequest(model=spec, images=[image])
            assert client.stub.Classify(request, timeout=30).model_version == version
            described = client.stub.GetModel(pb.GetModelRequest(model=spec), timeout=30).model
            assert (described.version, list(described.version_labels)) == (version, [label])
        spec = pb.ModelSpec(name="digits", version_label="beta")
        code, text = failure(client, pb.ClassifyRequest(model=spec, images=[image]))
        assert code is grpc.StatusCode.NOT_FOUND
        assert "no label beta; its labels are: canary, stable" in text


def test_a_refused_configuration_is_seen_over_rpc_and_in_the_metrics(
    repository: Path, digits: Digits
) -> None:
    with running_server(repository) as client:
        (repository / "digits" / "config.yaml").write_text("max_batchsize: 4")
        refused = 'convd_model_configuration_refused{model="digits"} 1.0'
        wait_until(lambda: refused in client.get("/metrics")[1])
        (listed,) = client.stub.ListModels(pb.ListModelsRequest(), timeout=10).models
        assert "line 1: unknown key; the server's log names it; the last good" in listed.reason
        assert listed.state == pb.ModelVersion.STATE_AVAILABLE
        assert client.get("/readyz")[0] == 200
        assert len(client.classify(digit(digits)).results) == 1
