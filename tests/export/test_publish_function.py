import doctest
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import convd
import convd.publishing
from convd.artifact.mirror import Mirror
from convd.export.errors import SourceError
from tests.object_storage import storage_server


def network() -> nn.Module:
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Dropout(), nn.Flatten(), nn.Linear(784, 2))
    return layers.train()


def test_a_module_of_this_process_is_published_and_loaded(tmp_path: Path) -> None:
    module = network()
    published = convd.publish(
        module,
        name="shapes",
        repository=tmp_path,
        labels=["circle", "square"],
        resize=20,
        crop=16,
        mean=0.5,
        std=(0.5, 0.25, 0.125),
    )
    assert published.path == tmp_path / "shapes" / "1"
    assert module.training, "the caller's own network stays as it was"
    picture = Image.effect_noise((20, 20), 64).convert("RGB")
    pixels = torch.tensor(np.array(picture.crop((2, 2, 18, 18)))) / 255
    given = (pixels - 0.5) / torch.tensor([0.5, 0.25, 0.125])
    with torch.inference_mode():
        wanted = module.eval()(given.permute(2, 0, 1)[None]).softmax(1)[0]
    with convd.load(published.path) as model:
        answer = {one.label: one.probability for one in model.classify(picture).classes}
    assert answer == pytest.approx(
        {"circle": float(wanted[0]), "square": float(wanted[1])}, abs=1e-5
    )


def test_it_publishes_to_object_storage(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with storage_server(monkeypatch) as server:
        for version in (1, 2):
            published = convd.publish(
                network(),
                name="shapes",
                repository=server.url,
                labels=["circle", "square"],
                resize=(16, 16),
                mean=0.5,
                std=0.5,
            )
            assert published.place == f"{server.url}/shapes/{version}"
        Mirror(server.storage, server.url, tmp_path).sync()
    with convd.load(tmp_path / "shapes" / "2") as model:
        assert model.labels == ("circle", "square")


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="labels must be distinct"):
        convd.publish(
            network(), name="a", repository=tmp_path, labels=["x", "x"], resize=16, mean=0, std=1
        )
    assert not list(tmp_path.iterdir())


def test_the_example_in_the_docstring(tmp_path: Path) -> None:
    names = {"convd": convd, "network": network(), "repository": tmp_path}
    result = doctest.testmod(convd.publishing, extraglobs=names)
    assert (result.failed, result.attempted > 0) == (0, True)
