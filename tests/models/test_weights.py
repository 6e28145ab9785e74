import os
import pickle
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from convd.models import create_model
from convd.models.errors import (
    CheckpointMismatchError,
    InvalidCheckpointError,
    UnsafeCheckpointError,
)
from convd.models.foreign import guess_architecture, load_foreign_checkpoint
from convd.models.weights import load_weights


@pytest.fixture(scope="module")
def lenet() -> nn.Module:
    torch.manual_seed(0)
    return create_model("lenet5", num_classes=7, in_channels=1).eval()


@pytest.fixture(scope="module")
def resnet18() -> nn.Module:
    torch.manual_seed(0)
    return create_model("resnet18", num_classes=4).eval()


def _wrapped(weights: dict[str, Tensor], wrapping: str) -> object:
    return {
        "plain": weights,
        "ordered": OrderedDict(weights),
        "state_dict": {"state_dict": weights, "epoch": 3, "best": 0.5},
        "model": {"model": weights, "optimizer": {"state": {}, "param_groups": [1]}},
        "module": {f"module.{name}": tensor for name, tensor in weights.items()},
        "nested": {"state_dict": {f"module.model.{name}": t for name, t in weights.items()}},
    }[wrapping]


@pytest.mark.parametrize(
    "wrapping", ["plain", "ordered", "state_dict", "model", "module", "nested"]
)
@pytest.mark.parametrize("suffix", [".pt", ".pth"])
def test_a_state_dict_is_read_however_it_is_wrapped(
    tmp_path: Path, lenet: nn.Module, wrapping: str, suffix: str
) -> None:
    path = tmp_path / f"weights{suffix}"
    torch.save(_wrapped(dict(lenet.state_dict()), wrapping), path)
    loaded = load_foreign_checkpoint("lenet", path)
    x = torch.rand(2, 1, 32, 32)
    assert not loaded.training
    assert torch.equal(loaded(x), lenet(x))


def test_safetensors_are_read(tmp_path: Path, lenet: nn.Module) -> None:
    save_file(lenet.state_dict(), tmp_path / "weights.safetensors")
    loaded = load_foreign_checkpoint("lenet5", tmp_path / "weights.safetensors")
    x = torch.rand(2, 1, 32, 32)
    assert torch.equal(loaded(x), lenet(x))


class _Executes:
    def __init__(self, canary: Path) -> None:
        self._canary = canary

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self._canary}",)


@pytest.mark.parametrize("plain", [True, False])
def test_a_pickle_that_executes_code_is_refused(tmp_path: Path, *, plain: bool) -> None:
    canary, path = tmp_path / "executed", tmp_path / "weights.pth"
    payload = {"state_dict": {"fc.weight": _Executes(canary)}}
    if plain:
        path.write_bytes(pickle.dumps(payload, protocol=2))
    else:
        torch.save(payload, path)
    with pytest.raises(UnsafeCheckpointError, match=r"network\.state_dict\(\)"):
        load_weights(path)
    assert not canary.exists()


def test_a_pickled_network_is_refused(tmp_path: Path, lenet: nn.Module) -> None:
    torch.save(lenet, tmp_path / "network.pt")
    with pytest.raises(UnsafeCheckpointError, match="reading it would run code"):
        load_weights(tmp_path / "network.pt")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("weights.pth", b"", "damaged"),
        ("weights.pth", b"not a checkpoint at all", "damaged"),
        ("weights.safetensors", b"\x10\0\0\0\0\0\0\0{}", "damaged"),
        ("weights.h5", b"x", "no known kind"),
    ],
)
def test_a_damaged_file(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InvalidCheckpointError, match=message):
        load_weights(tmp_path / name)


@pytest.mark.parametrize("loaded", [[1, 2], {}, {"epoch": 3}, {"a": torch.ones(1), "epoch": 3}])
def test_a_file_without_weights(tmp_path: Path, loaded: object) -> None:
    torch.save(loaded, tmp_path / "weights.pt")
    with pytest.raises(InvalidCheckpointError, match=r"save network\.state_dict\(\)"):
        load_weights(tmp_path / "weights.pt")


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InvalidCheckpointError, match="is no file"):
        load_weights(tmp_path / "weights.pt")


def test_weights_of_another_network_are_named(tmp_path: Path) -> None:
    save_file(create_model("resnet50", num_classes=4).state_dict(), tmp_path / "r.safetensors")
    with pytest.raises(CheckpointMismatchError) as caught:
        load_foreign_checkpoint("resnet18", tmp_path / "r.safetensors")
    message = str(caught.value)
    assert "do not fit resnet18" in message
    assert "unexpected: layer1.0.bn3.bias" in message
    assert "fc.weight (4, 2048) instead of (4, 512)" in message
    assert "the keys look like resnet50's" in message


def test_missing_weights_are_named(tmp_path: Path, resnet18: nn.Module) -> None:
    weights = dict(resnet18.state_dict())
    del weights["fc.weight"], weights["conv1.weight"]
    torch.save(weights, tmp_path / "weights.pt")
    with pytest.raises(CheckpointMismatchError, match=r"2 missing: conv1\.weight, fc\.weight"):
        load_foreign_checkpoint("resnet18", tmp_path / "weights.pt", num_classes=4)


def test_classes_and_channels_are_read_from_the_weights(tmp_path: Path) -> None:
    network = create_model("resnet18", num_classes=3, in_channels=1)
    torch.save(network.state_dict(), tmp_path / "weights.pt")
    loaded = load_foreign_checkpoint("resnet18", tmp_path / "weights.pt")
    assert loaded(torch.rand(1, 1, 32, 32)).shape == (1, 3)
    with pytest.raises(CheckpointMismatchError, match=r"fc\.weight \(3, 512\) instead of \(5, 512"):
        load_foreign_checkpoint("resnet18", tmp_path / "weights.pt", num_classes=5)


def test_checkpoints_from_before_the_batch_counter_load(
    tmp_path: Path, resnet18: nn.Module
) -> None:
    weights = {
        name: tensor
        for name, tensor in resnet18.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    torch.save(weights, tmp_path / "weights.pt")
    loaded = load_foreign_checkpoint("resnet18", tmp_path / "weights.pt")
    x = torch.rand(2, 3, 32, 32)
    assert torch.equal(loaded(x), resnet18(x))


def test_googlenet_without_auxiliaries_loads(tmp_path: Path) -> None:
    alone = create_model("googlenet", num_classes=4, auxiliary_classifiers=False).eval()
    save_file(alone.state_dict(), tmp_path / "weights.safetensors")
    loaded = load_foreign_checkpoint("googlenet", tmp_path / "weights.safetensors")
    assert loaded.state_dict().keys() == alone.state_dict().keys()


def test_densenet_under_its_old_names_loads(tmp_path: Path) -> None:
    network = create_model("densenet121", num_classes=4).eval()
    old = {
        name.replace("norm1", "norm.1")
        .replace("norm2", "norm.2")
        .replace("conv1", "conv.1")
        .replace("conv2", "conv.2"): tensor
        for name, tensor in network.state_dict().items()
    }
    assert old.keys() != network.state_dict().keys()
    torch.save(old, tmp_path / "weights.pth")
    loaded = load_foreign_checkpoint("densenet121", tmp_path / "weights.pth")
    assert all(
        torch.equal(tensor, network.state_dict()[name])
        for name, tensor in loaded.state_dict().items()
    )


def test_vgg_under_timms_names_loads(tmp_path: Path) -> None:
    with torch.device("meta"):
        network = create_model("vgg11", num_classes=4)
    theirs = {}
    for name, tensor in network.state_dict().items():
        values = torch.full(tensor.shape, 0.5)
        for ours, timms, side in (
            ("classifier.0", "pre_logits.fc1", 7),
            ("classifier.3", "pre_logits.fc2", 1),
            ("classifier.6", "head.fc", None),
        ):
            if name.startswith(ours):
                name = name.replace(ours, timms)
                if side is not None and values.dim() == 2:
                    values = values.view(values.shape[0], -1, side, side)
        theirs[name] = values
    save_file(theirs, tmp_path / "weights.safetensors")
    loaded = load_foreign_checkpoint("vgg11", tmp_path / "weights.safetensors")
    assert all((tensor == 0.5).all() for tensor in loaded.state_dict().values())


@pytest.mark.parametrize("name", ["lenet5", "zfnet", "googlenet", "vgg13_bn", "densenet169"])
def test_the_architecture_is_guessed(name: str) -> None:
    with torch.device("meta"):
        weights = dict(create_model(name, num_classes=11, in_channels=1).state_dict())
    assert guess_architecture(weights) == name


def test_nothing_is_guessed_from_strange_keys() -> None:
    assert guess_architecture({"encoder.0.weight": torch.ones(3, 3)}) is None
