"""A model of independent labels, next to one of classes, as each way to ask shows them."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner

from convd.artifact.evidence import Accuracy
from convd.commands import classify, models
from convd.protos.convd.v1 import classification_pb2 as pb
from convd.protos.inference import grpc_service_pb2 as v2
from convd.protos.inference.grpc_service_pb2_grpc import GRPCInferenceServiceStub
from tests.service.metrics.support import scrape
from tests.service.protocols.open_inference.requests import png, raw_image_request
from tests.support import Client, http_request, running_server
from tests.tiny_artifact import publish_tiny

SEED = 1
EXPECTED = {"dog": 0.78185546, "ship": 0.6533154, "cat": 0.30094865}
"""Sigmoids of this seed's logits for the picture that the requests send, most probable first."""

UNPREDICTED = ["cat"]


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("repository")
    accuracy = Accuracy(top1=0.75, mean_average_precision=0.8125, examples=10, data="pictures")
    publish_tiny(root, "tags", seed=SEED, task="multilabel", accuracy=accuracy)
    publish_tiny(root, "pets", seed=SEED)
    return root


@pytest.fixture(scope="module")
def server(repository: Path) -> Iterator[Client]:
    with running_server(repository) as client:
        yield client


def convd(command: click.Command, server: Client, *arguments: str | Path) -> str:
    words = [*map(str, arguments), "--server", f"127.0.0.1:{server.grpc_port}"]
    done = CliRunner(env={"COLUMNS": "200"}).invoke(command, words)
    assert done.exit_code == 0, done.output
    return done.output


def test_an_answer_says_how_to_read_it(server: Client) -> None:
    for name, task in (("tags", pb.TASK_MULTILABEL), ("pets", pb.TASK_MULTICLASS)):
        response = server.classify(png(), png(), model=name)
        assert response.task == task
        for result in response.results:
            classes = result.classification.classes
            total = sum(one.probability for one in classes)
            if name == "tags":
                found = {one.label: one.probability for one in classes}
                assert found == pytest.approx(EXPECTED, abs=1e-6)
                assert list(found) == list(EXPECTED)
            assert (abs(total - 1) < 1e-5) is (name == "pets")


def test_a_model_says_what_its_labels_are(server: Client) -> None:
    pets, tags = server.stub.ListModels(pb.ListModelsRequest()).models
    assert (pets.task, tags.task) == (pb.TASK_MULTICLASS, pb.TASK_MULTILABEL)
    assert not pets.HasField("mean_average_precision")
    assert (tags.accuracy, tags.mean_average_precision) == (0.75, 0.8125)
    described = server.stub.GetModel(pb.GetModelRequest(model=pb.ModelSpec(name="tags")))
    assert described.model.task == pb.TASK_MULTILABEL
    assert json.loads(described.manifest_json)["task"] == "multilabel"


def test_the_open_inference_protocol_gives_each_label_its_own_probability(server: Client) -> None:
    stub = GRPCInferenceServiceStub(server.channel)
    request = raw_image_request(2)
    request.model_name = "tags"
    request.outputs.add(name="probabilities").parameters["classification"].int64_param = 3
    response = stub.ModelInfer(request)
    assert list(response.outputs[0].shape) == [2, 3]
    elements = re.findall(rb"([\d.]+):(\d):(\w+)", response.raw_output_contents[0])
    first = {label.decode(): float(value) for value, _, label in elements[:3]}
    assert first == pytest.approx(EXPECTED, abs=1e-6)
    assert list(first) == list(EXPECTED)
    for name, task in (("tags", "multilabel"), ("pets", "multiclass")):
        config = stub.ModelConfig(v2.ModelConfigRequest(name=name)).config
        assert config.parameters["task"].string_value == task


def test_the_consoles_api_says_it_too(server: Client) -> None:
    pets, tags = json.loads(server.get("/api/models")[1])
    assert (pets["task"], tags["task"]) == ("multiclass", "multilabel")
    assert tags["accuracy"]["mean_average_precision"] == 0.8125
    status, _, body = http_request(server.http_port, "POST", "/api/classify?model=tags", png())
    answer = json.loads(body)
    assert (status, answer["task"]) == (200, "multilabel")
    found = {one["label"]: one["probability"] for one in answer["classes"]}
    assert found == pytest.approx(EXPECTED, abs=1e-6)


def test_convd_classify_marks_each_label_that_is_predicted(server: Client, tmp_path: Path) -> None:
    image = tmp_path / "picture.png"
    image.write_bytes(png())
    shown = convd(classify.command, server, image, "--model", "tags")
    for label, probability in EXPECTED.items():
        (line,) = (one for one in shown.splitlines() if re.match(rf"\s*{label}\b", one))
        assert f"{probability:.4%}" in line
        assert ("✓" in line) is (label not in UNPREDICTED)
        assert line.count("█") == round(probability * 40)
    assert "do not sum to 100 %" in shown
    answer = json.loads(convd(classify.command, server, image, "--model", "tags", "--json"))
    assert answer["task"] == "multilabel"
    shown = convd(classify.command, server, image, "--model", "pets")
    assert "✓" not in shown
    assert "100 %" not in shown
    answer = json.loads(convd(classify.command, server, image, "--model", "pets", "--json"))
    assert answer["task"] == "multiclass"
    assert sum(one["probability"] for one in answer["classes"]) == pytest.approx(1, abs=1e-5)


def test_convd_models_shows_what_the_labels_are_and_their_figure(server: Client) -> None:
    shown = convd(models.command, server).splitlines()
    (tags,) = (place for place, line in enumerate(shown) if line.startswith("tags"))
    (pets,) = (place for place, line in enumerate(shown) if line.startswith("pets"))
    assert "0.8125 mAP" in shown[tags]
    assert shown[tags + 1].strip() == "3 independent labels: cat, dog, ship"
    assert "mAP" not in shown[pets]
    assert shown[pets + 1].strip() == "3 classes: cat, dog, ship"


def test_every_predicted_label_is_counted(repository: Path) -> None:
    with running_server(repository) as client:
        client.classify(png(), png(), model="tags")
        counts = {
            label: scrape(client, "convd_predictions_total", model="tags", **{"class": label})
            for label in EXPECTED
        }
        assert counts == {"dog": [2], "ship": [2], "cat": [0]}
        assert scrape(client, "convd_images_total", model="tags") == [2]
        assert scrape(client, "convd_accuracy_ratio", model="tags") == [0.8125]
        (confidence,) = scrape(client, "convd_prediction_confidence_ratio_sum", model="tags")
        together = np.prod([max(one, 1 - one) for one in EXPECTED.values()])
        assert confidence == pytest.approx(2 * together, rel=1e-5)
