"""`POST /v1/classify/MODEL`: pictures for curl, with the answers and refusals of gRPC."""

import json
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf import json_format
from hypothesis import given
from hypothesis import strategies as st

from convd.protos.convd.v1 import classification_pb2 as pb
from tests.service.protocols.open_inference.requests import pixels, png
from tests.service.test_endpoints import counter
from tests.service.web.bodies import form
from tests.support import Client, http_request, running_server
from tests.tiny_artifact import publish_tiny

PICTURE = png()
OTHER = png(pixels(2)[1])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    root = tmp_path_factory.mktemp("repository")
    publish_tiny(root)
    (root / "pets" / "config.yaml").write_text("labels: {stable: 1}\n")
    with running_server(root, max_images_per_request=3) as client:
        yield client


def classify(
    server: Client, body: bytes, query: str = "", model: str = "pets", **headers: str
) -> tuple[int, Any]:
    path = f"/v1/classify/{model}{query}"
    status, _, answer = http_request(server.http_port, "POST", path, body, **headers)
    return status, json.loads(answer)


def test_a_picture_gets_the_answer_of_grpc_bit_for_bit(server: Client) -> None:
    for query in ("", "?version=1", "?version=stable", "?top_k=0", "?timeout_seconds=20"):
        status, answer = classify(server, PICTURE, query)
        assert status == 200
        read = json_format.ParseDict(answer, pb.ClassifyResponse())
        assert read == server.classify(PICTURE, model="pets")
        assert isinstance(answer["model_version"], int)
    _, answer = classify(server, PICTURE, "?top_k=1")
    [best] = answer["results"][0]["classification"]["classes"]
    assert (
        np.float32(best["probability"])
        == server.classify(PICTURE, model="pets").results[0].classification.classes[0].probability
    )


def test_several_files_of_a_form(server: Client) -> None:
    body, headers = form(PICTURE, b"no image", OTHER)
    status, answer = classify(server, body, **headers)
    expected = server.classify(PICTURE, b"no image", OTHER, model="pets")
    assert status == 200
    assert json_format.ParseDict(answer, pb.ClassifyResponse()) == expected
    assert answer["results"][1]["error"]["code"] == grpc.StatusCode.INVALID_ARGUMENT.value[0]


def test_it_is_counted_as_its_method(server: Client) -> None:
    method = {"method": "/v1/classify", "model": "pets", "version": "1", "code": "OK"}
    before = counter(server, "convd_requests_total", **method)
    assert classify(server, PICTURE)[0] == 200
    assert counter(server, "convd_requests_total", **method) == before + 1


@pytest.mark.parametrize(
    ("body", "model", "query", "status"),
    [
        (b"", "pets", "", 400),
        (b"no image", "pets", "", 400),
        (PICTURE, "nobody", "", 404),
        (PICTURE, "pets", "?version=7", 404),
        (PICTURE, "pets", "?version=nightly", 404),
        (PICTURE, "pets", "?version=0", 400),
        (PICTURE, "pets", f"?version={'9' * 5000}", 400),
        (PICTURE, "pets", "?top_k=-1", 400),
        (PICTURE, "pets", "?top_k=many", 400),
        (PICTURE, "pets", "?top_k=%C2%B2", 400),
        (PICTURE, "pets", "?top_k=3000000000", 400),
        (PICTURE, "pets", "?return_features=maybe", 400),
        # This model was exported without them.
        (PICTURE, "pets", "?return_features=true", 400),
        (PICTURE, "pets", "?timeout_seconds=soon", 400),
        (PICTURE, "pets", "?timeout_seconds=0.000001", 504),
    ],
)
def test_what_cannot_be_answered_is_refused_as_a_problem(
    server: Client, body: bytes, model: str, query: str, status: int
) -> None:
    path = f"/v1/classify/{model}{query}"
    found, headers, answer = http_request(server.http_port, "POST", path, body)
    problem = json.loads(answer)
    assert (found, problem["status"]) == (status, status)
    assert headers["Content-Type"] == "application/problem+json"
    assert problem["detail"]
    assert problem["title"]
    assert problem["request_id"] == headers["X-Request-Id"]


def test_a_refusal_has_the_text_of_the_rpc(server: Client) -> None:
    for image, model in ((b"no image", "pets"), (PICTURE, "nobody")):
        with pytest.raises(grpc.RpcError) as caught:
            server.classify(image, model=model)
        _, refusal = classify(server, image, model=model)
        assert (refusal["code"], refusal["detail"]) == (
            caught.value.code().name, caught.value.details(),
        )  # fmt: skip


@pytest.mark.parametrize(
    ("body", "content_type", "text"),
    [
        (form(*[PICTURE] * 4)[0], "multipart/form-data; boundary=edge", "4 images, over the limit"),
        (form()[0], "multipart/form-data; boundary=edge", "no images"),
        (form(PICTURE)[0][:-9], "multipart/form-data; boundary=edge", "the form cannot be read"),
        (form(PICTURE)[0], "multipart/form-data", "the form cannot be read"),
        (form(PICTURE)[0], "multipart/form-data; boundary=other", "the form cannot be read"),
        (b"", "multipart/form-data; boundary=edge", "the form cannot be read"),
        (b"--edge\r\n" + b"a: b\r\n" * 100_000, "multipart/form-data; boundary=edge", "the form"),
    ],
)
def test_a_form_that_is_none_is_refused(
    server: Client, body: bytes, content_type: str, text: str
) -> None:
    status, refusal = classify(server, body, Content_Type=content_type)
    assert (status, refusal["code"]) == (400, "INVALID_ARGUMENT")
    assert text in refusal["detail"]


@given(st.data())
def test_a_damaged_form_is_answered_or_refused(server: Client, data: st.DataObject) -> None:
    body, headers = form(PICTURE, OTHER)
    start = data.draw(st.integers(0, len(body)))
    end = data.draw(st.integers(start, min(len(body), start + 40)))
    damaged = body[:start] + data.draw(st.binary(max_size=40)) + body[end:]
    assert classify(server, damaged, **headers)[0] in (200, 400)


def test_other_methods_are_refused(server: Client) -> None:
    status, headers, _ = http_request(server.http_port, "GET", "/v1/classify/pets")
    assert (status, headers["Allow"]) == (405, "POST")
    status, _, body = http_request(server.http_port, "GET", "/v1/elsewhere")
    assert (status, json.loads(body)["code"]) == (404, "NOT_FOUND")
