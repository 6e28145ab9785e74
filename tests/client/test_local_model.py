import doctest
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import convd
import convd.client.client
import convd.local_model
from convd.artifact.errors import ArtifactError
from convd.client import Client, InvalidImageError
from tests.client.test_client import address
from tests.digits import Digits
from tests.support import running_server
from tests.tiny_artifact import publish_tiny


def test_it_answers_bit_for_bit_as_the_server(repository: Path) -> None:
    pictures = Digits(seed=7, count=200)
    images = [pictures.encoded(index) for index in range(len(pictures))]
    with (
        running_server(repository) as server,
        Client(address(server)) as client,
        convd.load(repository / "digits", intra_op_threads=1) as model,
    ):
        for image in images:
            assert model.classify(image, top_k=0) == client.classify(image, "digits", top_k=0)
        assert model.classify(images[:20], top_k=3) == client.classify(
            images[:20], "digits", top_k=3
        )
    assert model.labels == Digits.labels
    assert model.manifest.accuracy is not None


@pytest.mark.parametrize("path", [".", "digits", "digits/1", "digits/"])
def test_a_repository_a_model_or_a_version_can_be_named(
    repository: Path, digits: Digits, path: str
) -> None:
    with convd.load(repository / path) as model:
        assert (model.name, model.version) == ("digits", 1)
        assert model.classify(digits.picture(3)).label == "3"
        assert model.classify(np.asarray(digits.picture(3))).label == "3"


def test_versions_and_labels(tmp_path: Path) -> None:
    root = tmp_path / "repository"
    for seed in range(3):
        publish_tiny(root, seed=seed)
    (root / "pets" / "config.yaml").write_text("labels: {stable: 2}\nprovider: cpu\n")
    with (
        convd.load(root / "pets") as newest,
        convd.load(root / "pets", version=1) as first,
        convd.load(root / "pets", version_label="stable") as stable,
        convd.load(root / "pets" / "1") as named,
    ):
        assert [newest.version, first.version, stable.version, named.version] == [3, 1, 2, 1]
    for wrong, text in (
        ({"version": 4}, r"has no version 4; it has: 1, 2, 3"),
        ({"version_label": "canary"}, r"no label 'canary'; its labels are: stable"),
    ):
        with pytest.raises(ArtifactError, match=text):
            convd.load(root / "pets", **wrong)


def test_what_is_no_model_says_what_to_give(repository: Path, tmp_path: Path) -> None:
    lone = tmp_path / "artifact"
    shutil.copytree(repository / "digits" / "1", lone)
    with pytest.raises(ArtifactError, match="copy it to REPOSITORY/artifact/1"):
        convd.load(lone)
    with pytest.raises(ArtifactError, match="does not exist: give a model repository"):
        convd.load(tmp_path / "absent")
    with pytest.raises(ArtifactError, match="is not a folder"):
        convd.load(repository / "digits" / "1" / "model.onnx")
    publish_tiny(repository)
    with pytest.raises(ArtifactError, match="has 2 models: give the folder of one of them, such"):
        convd.load(repository)


def test_errors_are_those_of_the_client(repository: Path, digits: Digits) -> None:
    with convd.load(repository) as model:
        with pytest.raises(InvalidImageError, match="send a JPEG, PNG, WebP or BMP"):
            model.classify(b"no image")
        with pytest.raises(InvalidImageError, match="1 of 2 images") as refused:
            model.classify([b"bad", digits.encoded(2)])
        assert refused.value.results[1].label == "2"  # type: ignore[union-attr]


def test_an_altered_artifact_is_not_loaded(repository: Path) -> None:
    model = repository / "digits" / "1" / "model.onnx"
    model.write_bytes(model.read_bytes() + b"x")
    with pytest.raises(ArtifactError, match="does not match its checksum"):
        convd.load(repository)


def test_the_examples_in_the_docstrings(
    repository: Path, digits: Digits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("digit.png").write_bytes(digits.encoded(3))
    with running_server(repository) as server:
        names = {
            "convd": convd,
            "server": address(server),
            "repository": repository,
            "digit": digits.encoded(3),
        }
        for module in (convd.client.client, convd.local_model):
            result = doctest.testmod(module, extraglobs=names)
            assert (result.failed, result.attempted > 0) == (0, True)


def test_loading_needs_no_training_framework(repository: Path) -> None:
    code = (
        "import sys, convd; convd.load(sys.argv[1]); "
        "assert not {'torch', 'onnx', 'click'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(repository)], check=True)
