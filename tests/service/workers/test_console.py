"""HTTP with several workers: the supervisor reads the request, and a worker answers."""

import json
from pathlib import Path

import grpc
import pytest

from convd.protos.convd.v1 import classification_pb2 as pb
from convd.protos.convd.v1.classification_pb2_grpc import ClassificationServiceStub
from testbed.server import http_get, server_process
from tests.service.workers.test_supervisor import metric, picture
from tests.support import http_request, wait_until
from tests.tiny_artifact import publish_tiny

pytestmark = pytest.mark.slow


def test_the_console_of_two_workers_is_that_of_one_server(tmp_path: Path) -> None:
    publish_tiny(tmp_path / "repository", "pets")
    log = tmp_path / "log"
    flags = ("--workers", "2", "--log-format", "json", "--access-log-sample-rate", "1")
    with server_process(tmp_path / "repository", log, *flags) as server:
        assert "convd console" in http_get(server.http_port, "/")[1]
        [model] = json.loads(http_get(server.http_port, "/api/models")[1])
        assert (model["name"], model["state"]) == ("pets", "available")
        path = "/api/classify?model=pets"
        status, _, body = http_request(
            server.http_port, "POST", path, picture(), X_Request_Id="mine"
        )
        assert status == 200
        request = pb.ClassifyRequest(
            model=pb.ModelSpec(name="pets"), images=[pb.Image(encoded=picture())]
        )
        with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
            response = ClassificationServiceStub(channel).Classify(request, timeout=30)
        best = response.results[0].classification.classes[0]
        assert json.loads(body)["classes"][0]["label"] == best.label
        status, _, body = http_request(server.http_port, "POST", path, b"no image")
        assert (status, json.loads(body)["code"]) == (400, "INVALID_ARGUMENT")
        wait_until(lambda: metric(server, "convd_requests_total", method="/console/classify") == 2)
        for _ in range(4):
            status, _, body = http_request(
                server.http_port, "POST", "/v1/classify/pets?top_k=1", picture()
            )
            assert (status, json.loads(body)["model_name"]) == (200, "pets")
        # Each of the two answered some.
        wait_until(lambda: metric(server, "convd_requests_total", method="/v1/classify") == 4)
        statistics = json.loads(http_get(server.http_port, "/v2/models/stats")[1])["model_stats"]
        assert statistics[0]["inference_stats"]["success"]["count"] == 6
        assert http_get(server.http_port, "/v2/health/ready") == (200, '{"ready": true}')
        assert http_get(server.http_port, "/v2/models/nobody")[0] == 404
        some = http_get(server.http_port, "/metrics?name[]=convd_requests_total")[1]
        assert "convd_requests_total{" in some
        assert "convd_workers" not in some
        assert server.terminate() == 0
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    access = [line for line in lines if line["logger"] == "convd.access"]
    assert {"mine"} < {line["request_id"] for line in access}
    assert len({line["process"] for line in access}) in (1, 2)


def test_two_workers_report_their_comparisons_together(tmp_path: Path) -> None:
    for seed in (1, 2):
        publish_tiny(tmp_path / "repository", "pets", seed=seed)
    (tmp_path / "repository" / "pets" / "config.yaml").write_text(
        "labels: {stable: 1, canary: 2}\nshadow: {share: 1}\n"
    )
    requests = 12

    def compared() -> int:
        found = json.loads(http_get(server.http_port, "/api/comparisons")[1])
        return int(found[0]["images"]["compared"]) if found else 0

    with server_process(
        tmp_path / "repository", tmp_path / "log", "--workers", 2, "--poll-seconds", 0.2
    ) as server:
        wait_until(lambda: http_get(server.http_port, "/api/comparisons")[1] != "[]")
        for _ in range(requests):
            assert http_request(server.http_port, "POST", "/v1/classify/pets", picture())[0] == 200
        wait_until(lambda: compared() == requests)
        total = metric(server, "convd_shadow_images_total", outcome="compared")
        assert total <= requests
        wait_until(
            lambda: metric(server, "convd_shadow_images_total", outcome="compared") == requests
        )
