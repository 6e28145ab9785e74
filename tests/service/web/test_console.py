"""The console's paths over a real server; the page itself is tested in a browser."""

import base64
import io
import json
import re
from importlib import resources
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from PIL import Image

from convd.artifact.bundle import checksums
from convd.artifact.preprocessing import prepare_image
from convd.service.web.routes import MAX_PICTURE_BYTES
from tests.digits import Digits
from tests.service.test_endpoints import counter
from tests.support import Client, http_request, png, rewrite_manifest, running_server

STATIC = resources.files("convd.service.web") / "static"


def get_json(client: Client, path: str) -> Any:
    return json.loads(client.get(path)[1])


def classify(client: Client, image: bytes, query: str = "model=digits") -> tuple[int, Any]:
    status, _, body = http_request(client.http_port, "POST", f"/api/classify?{query}", image)
    return status, json.loads(body)


def test_the_page_and_its_files_come_with_a_strict_policy(client: Client) -> None:
    for path in ("/", *(f"/static/{file.name}" for file in STATIC.iterdir())):
        if path == "/static/index.html":
            continue
        status, headers, body = http_request(client.http_port, "GET", path)
        assert (status, len(body)) == (200, int(headers["Content-Length"])), path
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert "Server" not in headers
        head = http_request(client.http_port, "HEAD", path)
        assert (head[0], head[1]["Content-Length"], head[2]) == (200, str(len(body)), b"")


def test_the_page_names_no_other_host_and_no_missing_file() -> None:
    for file in STATIC.iterdir():
        text = file.read_text().replace("http://www.w3.org/2000/svg", "")
        assert "//" not in re.sub(r"^\s*//.*$", "", text, flags=re.MULTILINE), file.name
    page = (STATIC / "index.html").read_text()
    named = re.findall(r'(?:href|src)="static/([^"]+)"', page)
    assert {"console.js", "console.css", "icon.svg"} <= set(named)
    assert all((STATIC / name).is_file() for name in named)


def test_the_page_knows_the_limit_of_the_server() -> None:
    assert MAX_PICTURE_BYTES == 16 * 1024 * 1024
    assert "MAX_IMAGE_BYTES = 16 * 1024 * 1024;" in (STATIC / "trial.js").read_text()
    assert "up to 16 MiB" in (STATIC / "index.html").read_text()


def test_models_are_listed_with_what_is_known_of_them(client: Client) -> None:
    [model] = get_json(client, "/api/models")
    assert (model["name"], model["version"], model["state"]) == ("digits", 1, "available")
    assert model["provider"] == "CPUExecutionProvider"
    assert model["golden_difference"] < 1e-4
    assert model["classes"] == 10
    assert model["input_shape"] == [32, 32, 1]
    assert 0 <= model["accuracy"]["top1"] <= 1


def test_a_version_that_failed_is_listed_with_its_reason(repository: Path) -> None:
    (repository / "digits" / "1" / "model.onnx").write_bytes(b"altered")
    with running_server(repository) as client:
        [model] = get_json(client, "/api/models")
        assert model["state"] == "failed"
        assert "does not match its checksum" in model["reason"]
        assert "provider" not in model
        status, text = client.get("/api/models/digits/1")
        assert (status, json.loads(text)["code"]) == (404, "NOT_FOUND")


def test_the_card_is_shown_with_its_plots_and_no_markup_of_its_own(
    repository: Path, digits: Digits
) -> None:
    version = repository / "digits" / "1"
    Image.new("L", (4, 4)).save(version / "plot.png")
    (version / "secret.txt").write_text("not for browsers")
    (version / "MODEL_CARD.md").write_text(
        "# digits\n\n<script>alert(1)</script>\n\n![plot](plot.png)\n\n[bad](javascript:alert(1))"
        "\n\n| a | b |\n| --- | ---: |\n| 1 | 2 |\n"
    )
    files = checksums(version)
    rewrite_manifest(version, files={k: v for k, v in files.items() if "manifest" not in k})
    (version / "unlisted.png").write_bytes((version / "plot.png").read_bytes())
    with running_server(repository) as client:
        description = get_json(client, "/api/models/digits/1")
        html = description["card_html"]
        assert "<script>" not in html
        assert 'href="javascript' not in html
        assert 'style="' not in html
        assert '<img src="api/models/digits/1/files/plot.png" alt="plot"' in html
        assert '<td class="align-right">2</td>' in html
        plot = http_request(client.http_port, "GET", "/api/models/digits/1/files/plot.png")
        assert (plot[0], plot[1]["Content-Type"]) == (200, "image/png")
        assert plot[2] == (version / "plot.png").read_bytes()
        for file in ("unlisted.png", "secret.txt", "model.onnx", "../1/plot.png", "%2e%2e/x.png"):
            assert client.get(f"/api/models/digits/1/files/{file}")[0] == 404, file
        [first, *_] = description["examples"]
        assert client_picture(client, first).size == digits.picture(0).size
        # What was altered after it was proved is not shown any more.
        (version / "plot.png").write_bytes(b"altered")
        assert client.get("/api/models/digits/1/files/plot.png")[0] == 404


def client_picture(client: Client, path: str) -> Image.Image:
    return Image.open(io.BytesIO(http_request(client.http_port, "GET", f"/{path}")[2]))


@pytest.mark.parametrize("path", ["/api/models/nobody/1", "/api/models/digits/9", "/api/elsewhere"])
def test_unknown_models_and_paths_are_not_found(client: Client, path: str) -> None:
    assert client.get(path)[0] == 404


def test_a_tried_image_gets_the_answer_of_the_rpc_and_is_counted(
    client: Client, digits: Digits
) -> None:
    picture = digits.picture(0)
    method = {"method": "/console/classify", "model": "digits", "version": "1", "code": "OK"}
    before = counter(client, "convd_requests_total", **method)
    images = counter(client, "convd_images_total")
    status, answer = classify(client, png(picture), "model=digits&version=1")
    assert (status, answer["model"], answer["version"]) == (200, "digits", 1)
    expected = client.classify(png(picture)).results[0].classification.classes
    found = [(one["index"], one["label"], one["probability"]) for one in answer["classes"]]
    assert [one[:2] for one in found] == [(one.index, one.label) for one in expected]
    assert [one[2] for one in found] == pytest.approx([one.probability for one in expected])
    seen = np.asarray(Image.open(io.BytesIO(base64.b64decode(answer["input_png"]))))
    assert (seen == prepare_image(picture, digits.preprocessing)[:, :, 0]).all()
    assert counter(client, "convd_requests_total", **method) == before + 1
    assert counter(client, "convd_images_total") == images + 2


@pytest.mark.parametrize(
    ("image", "query", "status"),
    [
        (b"", "model=digits", 400),
        (b"no image", "model=digits", 400),
        (b"no image", "", 400),
        (b"no image", "model=nobody", 404),
        (b"no image", "model=digits&version=7", 404),
        (b"no image", "model=digits&version=-1", 400),
        (b"no image", "model=digits&version=\u00b2", 400),
        (b"no image", f"model=digits&version={'9' * 5000}", 400),
    ],
)
def test_what_cannot_be_answered_is_refused_kindly(
    client: Client, image: bytes, query: str, status: int
) -> None:
    found, refusal = classify(client, image, query.replace("\u00b2", "%C2%B2"))
    assert found == status
    assert refusal["code"] in ("INVALID_ARGUMENT", "NOT_FOUND")
    assert refusal["request_id"]


def test_a_refusal_has_the_text_of_the_rpc(client: Client) -> None:
    for image, model in ((b"no image", "digits"), (b"", "digits"), (b"no image", "nobody")):
        with pytest.raises(grpc.RpcError) as caught:
            client.classify(image, model=model)
        _, refusal = classify(client, image, f"model={model}")
        assert refusal["code"] == caught.value.code().name
        assert refusal["detail"] == caught.value.details()


def test_a_request_id_comes_back(client: Client) -> None:
    path = "/api/classify?model=digits"
    answer = http_request(client.http_port, "POST", path, b"no image", X_Request_Id="mine-7")
    assert json.loads(answer[2])["request_id"] == "mine-7"


def test_methods_that_make_no_sense_are_refused(client: Client) -> None:
    for method, path in (("POST", "/"), ("GET", "/api/classify"), ("DELETE", "/api/models")):
        status, headers, _ = http_request(client.http_port, method, path)
        assert status == 405
        assert headers["Allow"] in ("GET, HEAD", "POST")
    assert http_request(client.http_port, "POST", "/metrics")[0] == 405


def test_without_the_console_metrics_and_health_remain(repository: Path) -> None:
    with running_server(repository, console=False) as client:
        assert client.get("/livez")[0] == 200
        assert "convd_" in client.get("/metrics")[1]
        for path in ("/", "/static/console.js", "/api/models"):
            assert client.get(path) == (
                404,
                "there is nothing at this path; try /metrics, /livez or /readyz\n",
            )
        assert http_request(client.http_port, "POST", "/api/classify?model=digits")[0] != 200
