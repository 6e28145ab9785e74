"""Weights from files: which of them are taken, whose recipe, and what weights do not carry."""

import argparse
import hashlib
import importlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from convd.artifact.preprocessing import CenterCrop, ResizeShorterSide, ResizeTo, prepare_image
from convd.export.errors import ParityError, SourceError
from convd.export.proof.end_to_end import check_recipe
from convd.export.proof.reference import network_input
from convd.export.sources import torchvision_zoo
from convd.export.sources.description import GivenDescription
from convd.export.sources.loading import SourceRequest, load_source
from convd.models import create_model
from convd.models.errors import ModelsError
from convd.models.installed_library import import_library
from tests.export.networks import CLASSES, TinyCnn
from tests.models import torchvision_oracle  # noqa: F401  makes torchvision importable

torchvision_models = importlib.import_module("torchvision.models")

NETWORK = "tests.export.networks:build"
DESCRIBED = GivenDescription(
    labels=CLASSES, resize=ResizeTo(height=16, width=16), mean=(0.5,), std=(0.25,)
)
IMAGENET = GivenDescription(
    labels=CLASSES,
    resize=ResizeTo(height=64, width=64),
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
)


def shifted(bias: float) -> dict[str, Any]:
    network = TinyCnn()
    with torch.no_grad():
        network.linear.bias.fill_(bias)
    return dict(network.state_dict())


def loaded_bias(saved: object, path: Path, **request: Any) -> tuple[float, dict[str, str]]:
    torch.save(saved, path)
    source = load_source(SourceRequest(NETWORK, weights=path, given=DESCRIBED, **request))
    bias = source.network.state_dict()["linear.bias"]
    return float(bias[0]), {fact.subject: fact.value for fact in source.facts}


@pytest.mark.parametrize("averaged", ["state_dict_ema", "model_ema", "ema", "ema_state_dict"])
def test_averaged_weights_are_taken_and_the_choice_is_said(averaged: str, tmp_path: Path) -> None:
    saved = {"state_dict": shifted(1), averaged: shifted(2), "epoch": 3, "best_acc": 0.5}
    bias, facts = loaded_bias(saved, tmp_path / "w.pth")
    assert bias == 2
    assert facts["weights"] == f"{averaged} is taken; there also is state_dict (--weights-key)"
    bias, facts = loaded_bias(saved, tmp_path / "w.pth", weights_key="state_dict")
    assert bias == 1
    assert facts["weights"].startswith("state_dict is taken")


def test_sets_of_weights_that_only_the_user_can_tell_apart_are_asked_for(tmp_path: Path) -> None:
    saved = {"student": shifted(1), "teacher": shifted(2)}
    with pytest.raises(ModelsError, match="several sets of weights, student and teacher: choose"):
        loaded_bias(saved, tmp_path / "w.pth")
    assert loaded_bias(saved, tmp_path / "w.pth", weights_key="teacher")[0] == 2
    with pytest.raises(ModelsError, match="no weights under 'ema': --weights-key takes student"):
        loaded_bias(saved, tmp_path / "w.pth", weights_key="ema")


def prefixed(prefix: str, weights: dict[str, Any]) -> dict[str, Any]:
    return {prefix + name: tensor for name, tensor in weights.items()}


@pytest.mark.parametrize(
    "prefix", ["net.", "model.", "module.", "backbone.", "model.net.", "_orig_mod.module.", "m.x."]
)
def test_any_prefix_is_found_and_strangers_are_named(prefix: str, tmp_path: Path) -> None:
    saved = {"state_dict": prefixed(prefix, shifted(2)) | {"criterion.weight": torch.ones(5)}}
    assert loaded_bias(saved, tmp_path / "w.ckpt")[0] == 2
    source = load_source(SourceRequest(NETWORK, weights=tmp_path / "w.ckpt", given=DESCRIBED))
    assert any("criterion.weight" in fact.value for fact in source.facts)


def test_two_networks_under_two_prefixes_are_asked_for(tmp_path: Path) -> None:
    both = prefixed("online.", shifted(1)) | prefixed("target.", shifted(2))
    with pytest.raises(ModelsError, match=r"under online\. and target\.: choose one"):
        loaded_bias({"state_dict": both}, tmp_path / "w.ckpt")
    assert loaded_bias({"state_dict": both}, tmp_path / "w.ckpt", weights_key="target")[0] == 2
    ema = prefixed("model.", shifted(1)) | prefixed("ema_model.", shifted(2))
    assert loaded_bias({"state_dict": ema}, tmp_path / "w.ckpt")[0] == 2


def test_layers_that_the_network_lacks_are_no_strangers(tmp_path: Path) -> None:
    saved = shifted(1) | {"norm.weight": torch.ones(8), "norm.bias": torch.zeros(8)}
    with pytest.raises(ModelsError, match=r"has besides norm\.bias, norm\.weight"):
        loaded_bias(saved, tmp_path / "w.pth")


def test_figures_and_settings_beside_the_weights_load_without_running_anything(
    tmp_path: Path,
) -> None:
    saved = {
        "args": argparse.Namespace(lr=0.1, data=Path("photos")),
        "state_dict": shifted(2),
        "best_acc": np.float64(0.9),
        "epoch": np.int64(3),
        "optimizer": {"state": {0: {"exp_avg": torch.ones(3)}}, "param_groups": [{"lr": 0.1}]},
        "scores": np.arange(3.0),
    }
    assert loaded_bias(saved, tmp_path / "w.pth")[0] == 2


def test_old_weight_norm_loads_as_load_state_dict_does(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(
        "from torch import nn\ndef build():\n    return nn.Sequential(nn.Flatten(), "
        "nn.utils.parametrizations.weight_norm(nn.Linear(768, 5))).eval()\n"
    )
    with pytest.warns(FutureWarning):
        old = nn.Sequential(nn.Flatten(), nn.utils.weight_norm(nn.Linear(768, 5)))
    assert "1.weight_g" in old.state_dict()
    torch.save(old.state_dict(), tmp_path / "w.pth")
    source = load_source(
        SourceRequest(f"{tmp_path}/net.py:build", weights=tmp_path / "w.pth", given=DESCRIBED)
    )
    pictures = torch.rand(2, 3, 16, 16)
    assert torch.allclose(source.network(pictures), old(pictures))


@pytest.mark.parametrize("transform", [True, False])
@pytest.mark.parametrize("source", ["torchvision", "arch"])
def test_googlenets_switch_is_asked_for(source: str, transform: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = torchvision_models.googlenet(
        num_classes=5, transform_input=transform, aux_logits=False, init_weights=False
    ).eval()
    torch.save(network.state_dict(), tmp_path / "w.pth")
    given = GivenDescription(**vars(IMAGENET))
    name = {"source": "torchvision:googlenet:random"} if source == "torchvision" else {}
    request = {"architecture": "googlenet"} if source == "arch" else {}
    fields: dict[str, Any] = {**name, **request, "weights": tmp_path / "w.pth", "given": given}
    with pytest.raises(SourceError, match="give --option transform_input=true"):
        load_source(SourceRequest(**fields))
    loaded = load_source(SourceRequest(**fields, options={"transform_input": transform}))
    pictures = torch.rand(2, 3, 64, 64)
    with torch.inference_mode():
        assert torch.allclose(loaded.network(pictures), network(pictures), atol=1e-5)
    assert ("transform_input", str(transform), "--option") in {
        (fact.subject, fact.value, fact.origin) for fact in loaded.facts
    }


def mobilenet_file(path: Path) -> Path:
    network = torchvision_models.mobilenet_v2(weights=None)
    torch.save(network.state_dict(), path)
    return path


def test_the_recipe_of_weights_is_said_and_another_is_had_without_a_download(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = mobilenet_file(tmp_path / "v1.pth")

    def sizes(source: str, **request: Any) -> tuple[int, str]:
        loaded = load_source(SourceRequest(source, weights=file, **request))
        assert isinstance(loaded.preprocessing.resize, ResizeShorterSide)
        origin = {fact.subject: fact.origin for fact in loaded.facts}
        return loaded.preprocessing.resize.size, origin["resize"]

    size, origin = sizes("torchvision:mobilenet_v2:random")
    assert size == 232
    assert origin == ("IMAGENET1K_V2, torchvision's default; --recipe IMAGENET1K_V1 for another")
    assert sizes("torchvision:mobilenet_v2:random", recipe="IMAGENET1K_V1") == (
        256,
        "IMAGENET1K_V1, by --recipe",
    )
    assert sizes("torchvision:mobilenet_v2:IMAGENET1K_V1") == (256, "IMAGENET1K_V1")
    with pytest.raises(SourceError, match="has no weights 'V9'"):
        sizes("torchvision:mobilenet_v2:random", recipe="V9")
    # The file is recognised where it is a published one.
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    weights = torchvision_models.MobileNet_V2_Weights
    monkeypatch.setattr(torchvision_zoo, "_digest", lambda _: "b0353104" + digest[8:])
    assert "-b0353104." in weights.IMAGENET1K_V1.url
    assert sizes("torchvision:mobilenet_v2:random") == (
        256,
        "IMAGENET1K_V1, which has this file's SHA-256",
    )


def test_channels_of_a_timm_network_come_from_the_channel_order(tmp_path: Path) -> None:
    import timm

    network = timm.create_model("resnet10t", in_chans=1, num_classes=5).eval()
    torch.save({"state_dict": network.state_dict()}, tmp_path / "w.pth")
    given = GivenDescription(labels=CLASSES, channel_order="L")
    source = load_source(
        SourceRequest("timm:resnet10t:random", weights=tmp_path / "w.pth", given=given)
    )
    assert source.preprocessing.output_shape[2] == 1
    pictures = torch.rand(1, 1, 64, 64)
    assert torch.equal(source.network(pictures), network(pictures))


def test_a_wrong_number_of_labels_is_named_by_the_weights(tmp_path: Path) -> None:
    network = import_library("timm").create_model("test_resnet", num_classes=7)
    torch.save(network.state_dict(), tmp_path / "w.pth")
    request = SourceRequest(
        "timm:test_resnet:random",
        weights=tmp_path / "w.pth",
        given=GivenDescription(labels=CLASSES),
    )
    with pytest.raises(SourceError, match="are for 7 classes: give --labels with 7 names"):
        load_source(request)


def test_two_labels_take_a_network_with_one_output(tmp_path: Path) -> None:
    network = create_model("resnet18", num_classes=1, in_channels=3)
    torch.save(network.state_dict(), tmp_path / "w.pth")
    given = GivenDescription(**{**vars(IMAGENET), "labels": ("cat", "dog")})
    for request in (
        SourceRequest(architecture="resnet18", weights=tmp_path / "w.pth", given=given),
        SourceRequest("torchvision:resnet18:random", weights=tmp_path / "w.pth", given=given),
    ):
        assert load_source(request).network(torch.rand(1, 3, 64, 64)).shape == (1, 1)


@pytest.mark.parametrize(
    ("mean", "std", "message"),
    [
        (
            (123.675, 116.28, 103.53),
            (58.395, 57.12, 57.375),
            "give --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225",
        ),
        ((123.675, 116.28, 103.53), (1.0,), "--mean 0.485,0.456,0.406 --std 0.003922"),
        ((127.5,), (127.5,), "give --mean 0.5 --std 0.5"),
        ((0.0,), (255.0,), "give --mean 0 --std 1"),
        ((123.675, 116.28, 103.53), (0.229, 0.224, 0.225), "--std 0.229,0.224,0.225"),
        ((0.229, 0.224, 0.225), (0.485, 0.456, 0.406), "exchange them"),
    ],
)
def test_numbers_of_another_convention_are_recognised(
    mean: tuple[float, ...], std: tuple[float, ...], message: str
) -> None:
    given = GivenDescription(**{**vars(DESCRIBED), "mean": mean, "std": std})
    with pytest.raises(SourceError, match=message):
        load_source(SourceRequest(NETWORK, given=given))


def test_each_fact_has_its_origin() -> None:
    source = load_source(SourceRequest(NETWORK, given=DESCRIBED))
    origins = {fact.subject: fact.origin for fact in source.facts}
    assert origins == {
        "labels": "--labels",
        "resize": "--resize",
        "crop": "--resize",
        "interpolation": "default",
        "channel order": "default",
        "EXIF orientation": "default",
        "mean": "--mean",
        "std": "--std",
    }


def test_a_librarys_recipe_is_compared_with_its_own_code() -> None:
    source = load_source(SourceRequest("torchvision:squeezenet1_1:random"))
    assert source.library_recipe is not None
    decoded = [source.examples.picture(index) for index in range(3)]

    def check(**changes: Any) -> None:
        recipe = source.preprocessing.model_copy(update=changes)
        changed = replace(source, preprocessing=recipe)
        check_recipe(changed, decoded, np.stack([prepare_image(each, recipe) for each in decoded]))

    check()
    assert network_input(np.zeros((1, 2, 2, 3), np.uint8), source.normalization).shape == (
        1,
        3,
        2,
        2,
    )
    for change in (
        {"resize": ResizeShorterSide(size=232)},
        {"center_crop": CenterCrop(height=224, width=223)},
        {"interpolation": "bicubic"},
        {"channel_order": "BGR"},
    ):
        with pytest.raises(ParityError, match="own library"):
            check(**change)
