"""Every architecture names its stages, and has one code path for them and for its answer."""

import pytest
import torch
from torch import nn

from convd.models import create_model, list_models
from convd.models.registry import find_architecture

STEMS = {
    "lenet5": ["c1", "s2", "c3", "s4"],
    "alexnet": ["conv1", "conv2", "conv3", "conv4"],
    "zfnet": ["layer1", "layer2", "layer3", "layer4"],
    "vgg11": ["stage1", "stage2", "stage3", "stage4"],
    "vgg16_bn": ["stage1", "stage2", "stage3", "stage4"],
    "resnet18": ["stem", "stage1", "stage2", "stage3"],
    "resnet50": ["stem", "stage1", "stage2", "stage3"],
    "densenet121": ["stem", "stage1", "stage2", "stage3", "stage4"],
    "googlenet": [
        "stem",
        *(f"inception{name}" for name in ("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a")),
    ],
}


@pytest.mark.parametrize("name", STEMS)
def test_stages_have_the_papers_names(name: str) -> None:
    with torch.device("meta"):
        network = create_model(name, num_classes=4).eval()
        found = network.intermediates(torch.empty(2, 3, *[_size(name)] * 2))
    assert list(found) == [*STEMS[name], "features", "pre_logits", "logits"]


@pytest.mark.parametrize("name", list_models())
def test_every_network_ends_in_features_pre_logits_and_logits(name: str) -> None:
    with torch.device("meta"):
        network = create_model(name, num_classes=4).eval()
        found = network.intermediates(torch.empty(2, 3, *[_size(name)] * 2))
    assert found["features"].ndim == 4
    assert found["pre_logits"].ndim == 2
    assert found["logits"].shape == (2, 4)


@pytest.mark.parametrize("name", ["lenet5", "resnet18", "densenet121", "googlenet", "vgg11"])
def test_stages_are_the_networks_own_way_to_its_answer(name: str) -> None:
    torch.manual_seed(0)
    network = create_model(name, num_classes=4).eval()
    last = [layer for layer in network.modules() if isinstance(layer, nn.Linear)][-1]
    x = torch.randn(2, 3, *[_size(name)] * 2)
    with torch.inference_mode():
        found = network.intermediates(x)
        assert torch.equal(found["logits"], network(x))
        assert torch.equal(last(found["pre_logits"]), found["logits"])
        # What comes later must not write into an earlier stage.
        again = {stage: value.clone() for stage, value in network.stages(x)}
    assert all(torch.equal(value, again[stage]) for stage, value in found.items())


def _size(name: str) -> int:
    return max(32, find_architecture(name).minimum_input_size)
