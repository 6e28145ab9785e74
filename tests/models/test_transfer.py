"""Fine-tuning starts from any weights whose backbone fits, whatever their head is."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from convd.models import create_model
from convd.models.errors import CheckpointMismatchError
from convd.models.pretrained import find_pretrained
from convd.models.registry import Weights, find_architecture
from convd.models.transfer import Transfer, transfer


@pytest.fixture(scope="module")
def trained() -> Weights:
    """The weights of a ResNet-18 of seven classes, with batch statistics of its own."""
    torch.manual_seed(1)
    network = create_model("resnet18", num_classes=7)
    network(torch.rand(4, 3, 32, 32))
    return network.state_dict()


def _transfer(weights: Weights, *, channels: int = 3) -> tuple[Weights, Transfer]:
    torch.manual_seed(2)
    network = create_model("resnet18", num_classes=4, in_channels=channels)
    head = network.state_dict()["fc.weight"].clone()
    taken = transfer(network, weights, find_architecture("resnet18"))
    after = network.state_dict()
    assert torch.equal(after["fc.weight"], head)
    return after, taken


def _backbone(weights: Weights) -> Weights:
    return {name: tensor for name, tensor in weights.items() if not name.startswith("fc.")}


def _with_head(**head: Tensor) -> Callable[[Weights], Weights]:
    return lambda weights: {
        **_backbone(weights),
        **{k.replace("_", "."): v for k, v in head.items()},
    }


def _numbered(weights: Weights) -> Weights:
    """As `nn.Sequential(*list(network.children())[:-1], head)` names them."""
    children = [name for name, _ in create_model("resnet18").named_children()]
    renamed = {}
    for name, tensor in _backbone(weights).items():
        child, _, rest = name.partition(".")
        renamed[f"features.{children.index(child)}.{rest}"] = tensor
    return {**renamed, "head.weight": torch.ones(2, 512)}


def _transformers(weights: Weights) -> Weights:
    """As `transformers.ResNetForImageClassification` names them."""
    stem = {"conv1": "embedder.embedder.convolution", "bn1": "embedder.embedder.normalization"}
    inner = {
        "conv1": "layer.0.convolution",
        "bn1": "layer.0.normalization",
        "conv2": "layer.1.convolution",
        "bn2": "layer.1.normalization",
        "downsample.0": "shortcut.convolution",
        "downsample.1": "shortcut.normalization",
    }
    renamed = {"classifier.1.weight": torch.ones(7, 512), "classifier.1.bias": torch.ones(7)}
    for name, tensor in _backbone(weights).items():
        layer, _, kind = name.rpartition(".")
        found = re.fullmatch(r"layer(\d)\.(\d)\.(.+)", layer)
        if found is None:
            renamed[f"resnet.{stem[layer]}.{kind}"] = tensor
        else:
            stage, block, part = found.groups()
            path = f"encoder.stages.{int(stage) - 1}.layers.{block}.{inner[part]}"
            renamed[f"resnet.{path}.{kind}"] = tensor
    return renamed


@pytest.mark.parametrize(
    ("change", "left_out"),
    [
        (lambda weights: weights, ("fc.bias", "fc.weight")),
        (_backbone, ()),
        (_with_head(fc_1_weight=torch.ones(9, 512)), ("fc.1.weight",)),
        (_with_head(fc_weight=torch.ones(4, 512)), ("fc.weight",)),
        (_with_head(classifier_weight=torch.ones(5, 512)), ("classifier.weight",)),
        (_with_head(head_fc_weight=torch.ones(5, 512)), ("head.fc.weight",)),
        (
            lambda weights: {
                **{f"model.backbone.{name}": each for name, each in _backbone(weights).items()},
                "model.head.weight": torch.ones(2, 512),
            },
            ("model.head.weight",),
        ),
        (_numbered, ("head.weight",)),
        (_transformers, ("fc.bias", "fc.weight")),
        (lambda weights: {name: each.half() for name, each in weights.items()}, None),
        (
            lambda weights: {
                name: each for name, each in weights.items() if not name.endswith("batches_tracked")
            },
            None,
        ),
    ],
    ids=[
        "own head", "no head", "nested head", "same head", "renamed head", "timm's head",
        "prefix", "children of a Sequential", "transformers", "half", "no counters",
    ],
)  # fmt: skip
def test_the_head_does_not_matter(
    trained: Weights, change: Callable[[Weights], Weights], left_out: tuple[str, ...] | None
) -> None:
    after, taken = _transfer(change(trained))
    for name, tensor in _backbone(trained).items():
        if not name.endswith("num_batches_tracked"):
            torch.testing.assert_close(after[name], tensor, atol=1e-3, rtol=1e-3)
    assert taken.random == ()
    assert not taken.stem
    if left_out is not None:
        assert taken.left_out == left_out


@pytest.mark.parametrize(("channels", "kept"), [(1, 3), (3, 1)])
def test_the_first_layer_takes_another_number_of_channels(channels: int, kept: int) -> None:
    torch.manual_seed(0)
    weights = create_model("resnet18", num_classes=3, in_channels=kept).state_dict()
    after, taken = _transfer(weights, channels=channels)
    assert taken.stem
    assert after["conv1.weight"].shape[1] == channels
    # A grey picture has the same features in both networks.
    grey = torch.rand(1, 1, 16, 16)
    first, second = (
        nn.functional.conv2d(grey.expand(-1, kernels.shape[1], -1, -1), kernels)
        for kernels in (after["conv1.weight"], weights["conv1.weight"])
    )
    torch.testing.assert_close(first, second, atol=1e-4, rtol=1e-4)


def test_fully_connected_layers_are_taken_where_they_fit() -> None:
    torch.manual_seed(0)
    architecture = find_architecture("lenet5")
    weights = create_model("lenet5", num_classes=10, in_channels=1).state_dict()
    network = create_model("lenet5", num_classes=2, in_channels=1)
    assert transfer(network, weights, architecture).random == ()
    assert torch.equal(network.state_dict()["f6.weight"], weights["f6.weight"])
    wide = {**weights, "f6.weight": torch.ones(99, 120), "f6.bias": torch.ones(99)}
    taken = transfer(network, wide, architecture)
    assert taken.random == ("f6.bias", "f6.weight")
    assert set(taken.left_out) == {"f6.bias", "f6.weight", "output.bias", "output.weight"}


def test_googlenet_without_auxiliaries_is_taken() -> None:
    weights = create_model("googlenet", num_classes=3, auxiliary_classifiers=False).state_dict()
    network = create_model("googlenet", num_classes=2, auxiliary_classifiers=False)
    assert transfer(network, weights, find_architecture("googlenet")).left_out == (
        "fc.bias",
        "fc.weight",
    )


def test_a_file_that_fits_nothing_is_refused_with_what_it_holds(trained: Weights) -> None:
    with pytest.raises(CheckpointMismatchError) as caught:
        _transfer({"encoder.0.weight": torch.ones(3, 3)})
    assert "do not fit resnet18" in str(caught.value)
    assert "1 unexpected: encoder.0.weight" in str(caught.value)
    deeper = create_model("resnet50", num_classes=4).state_dict()
    with pytest.raises(CheckpointMismatchError, match="the keys look like resnet50's"):
        _transfer(deeper)
    incomplete = {name: each for name, each in trained.items() if name != "layer3.1.conv2.weight"}
    with pytest.raises(CheckpointMismatchError, match=r"1 missing: layer3\.1\.conv2\.weight"):
        _transfer(incomplete)


def test_a_folder_of_the_hub_is_read(tmp_path: Path, trained: Weights) -> None:
    save_file(_transformers(trained), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text('{"model_type": "resnet"}')
    (tmp_path / "preprocessor_config.json").write_text(
        '{"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]}'
    )
    for spec in (f"hf:{tmp_path}", str(tmp_path), f"timm:local-dir:{tmp_path}"):
        found = find_pretrained(spec)
        assert found.normalization is not None
        assert found.normalization.mean == (0.1, 0.2, 0.3)
        assert found.normalization.std == (0.4, 0.5, 0.6)
        assert _transfer(found.tensors)[1].left_out == ("fc.bias", "fc.weight")
