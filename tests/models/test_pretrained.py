"""Weights by their name in a library: from its cache, over the network, or refused in one line."""

from pathlib import Path

import pytest
import torch

from convd.models import create_model
from convd.models.errors import LibraryError, ModelsError
from convd.models.pretrained import find_pretrained
from tests.models import torchvision_oracle  # noqa: F401


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and a network that refuses every connection."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    for name in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    return tmp_path


def test_torchvisions_weights_are_taken_from_its_cache(offline: Path) -> None:
    weights = create_model("resnet18").state_dict()
    cache = offline / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    torch.save(weights, cache / "resnet18-f37072fd.pth")
    for spec in ("torchvision:resnet18", "torchvision:resnet18:IMAGENET1K_V1"):
        found = find_pretrained(spec)
        assert found.tensors.keys() == weights.keys()
        assert torch.equal(found.tensors["conv1.weight"], weights["conv1.weight"])
        assert found.normalization is not None
        assert found.normalization.mean == (0.485, 0.456, 0.406)
        assert found.origin == "torchvision:resnet18 (IMAGENET1K_V1)"


@pytest.mark.parametrize(
    ("spec", "what_to_do"),
    [
        ("torchvision:resnet18", "download https://download.pytorch.org/models/resnet18-"),
        ("timm:resnet18", "run 'hf download timm/resnet18.a1_in1k --local-dir FOLDER'"),
        ("timm:hf-hub:convd/none", "run 'hf download convd/none --local-dir FOLDER'"),
        ("hf:convd/none", "the Hugging Face hub does not give it"),
        ("hf:not a name", "the Hugging Face hub does not give it"),
    ],
)
@pytest.mark.usefixtures("offline")
def test_without_a_network_one_line_says_how_to_bring_them(spec: str, what_to_do: str) -> None:
    with pytest.raises(LibraryError) as caught:
        find_pretrained(spec)
    assert what_to_do in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("torchvision:resnet19", "torchvision has no 'resnet19': try resnet1"),
        ("torchvision:resnet18:V3", "torchvision's resnet18 has no 'V3': try IMAGENET1K_V1"),
        ("timm:resnet19", "timm has no 'resnet19': try resnet1"),
        ("timm:resnet18.no_such_tag", "timm has no 'resnet18.no_such_tag': try resnet18."),
        ("nothing.pth", "nothing.pth is no file"),
    ],
)
def test_an_unknown_name_leads_to_a_known_one(spec: str, message: str) -> None:
    with pytest.raises(ModelsError) as caught:
        find_pretrained(spec)
    assert message in str(caught.value)


def test_a_folder_without_weights(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelsError, match=r"has no model\.safetensors or pytorch_model\.bin"):
        find_pretrained(f"hf:{tmp_path}")
