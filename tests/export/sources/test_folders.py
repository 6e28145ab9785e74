"""Folders and names of transformers and timm say labels, preprocessing, channels and head."""

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from convd.artifact.bundle import Artifact
from convd.artifact.manifest import Normalization
from convd.artifact.preprocessing import (
    CenterCrop,
    Preprocessing,
    ResizeShorterSide,
    ResizeTo,
    prepare_image,
)
from convd.commands.export import command
from convd.export.errors import SourceError
from convd.export.proof.recipe import reference_pixels
from convd.export.proof.reference import network_input
from convd.export.proof.sample_pictures import SamplePictures
from convd.export.sources.description import GivenDescription
from convd.export.sources.image_processor import read_image_processor
from convd.export.sources.loading import SourceRequest, load_source
from convd.models.errors import LibraryError
from convd.models.installed_library import import_library
from tests.export.networks import CLASSES

SQUEEZED = {"image_processor_type": "ViTImageProcessor", "size": {"height": 32, "width": 32}}


def transformers() -> Any:
    return import_library("transformers")


def save_resnet(folder: Path, processor: dict[str, Any] | None = None, **settings: Any) -> Any:
    """A ResNet of a few hundred weights, as `save_pretrained` leaves it."""
    library = transformers()
    names = dict(enumerate(CLASSES))
    config = library.ResNetConfig(
        **{
            "embedding_size": 8,
            "hidden_sizes": [8, 16],
            "depths": [1, 1],
            "layer_type": "basic",
            "id2label": names,
            "label2id": {name: index for index, name in names.items()},
            **settings,
        }
    )
    torch.manual_seed(0)
    network = library.ResNetForImageClassification(config).eval()
    with torch.no_grad():
        network.classifier[1].weight.mul_(10)
    library.utils.logging.disable_progress_bar()
    network.save_pretrained(folder)
    if processor is not None:
        (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return network


def save_timm(folder: Path, **options: Any) -> Any:
    """A network of timm as its own `save_for_hf` leaves it."""
    timm = import_library("timm")
    torch.manual_seed(0)
    network = timm.create_model("resnet10t", num_classes=5, **options).eval()
    hub = importlib.import_module("timm.models._hub")
    hub.save_for_hf(
        network, folder, model_config={"label_names": list(CLASSES)}, safe_serialization=True
    )
    return network


@pytest.mark.parametrize("prefix", ["hf:", ""])
def test_a_folder_of_transformers_says_everything_itself(prefix: str, tmp_path: Path) -> None:
    folder = tmp_path / "pets"
    network = save_resnet(folder, SQUEEZED)
    words = f"{prefix}{folder} --name pets --repository {tmp_path / 'r'}"
    done = CliRunner().invoke(command, words.split())
    assert done.exit_code == 0, done.output
    manifest = Artifact.open(tmp_path / "r" / "pets" / "1").manifest
    assert manifest.labels == CLASSES
    assert manifest.preprocessing == Preprocessing(resize=ResizeTo(height=32, width=32))
    assert manifest.normalization == Normalization(mean=(0.5,) * 3, std=(0.5,) * 3)
    assert manifest.provenance.source == "hf:pets"
    source = load_source(SourceRequest(f"{prefix}{folder}"))
    pictures = torch.rand(2, 3, 32, 32)
    assert torch.equal(source.network(pictures).logits, network(pictures).logits)


def test_channels_and_kind_of_problem_come_from_the_folder(tmp_path: Path) -> None:
    gray = {**SQUEEZED, "image_mean": [0.5], "image_std": [0.25]}
    save_resnet(tmp_path, gray, num_channels=1, problem_type="multi_label_classification")
    source = load_source(SourceRequest(f"hf:{tmp_path}"))
    assert source.preprocessing.channel_order == "L"
    assert source.normalization == Normalization(mean=(0.5,), std=(0.25,))
    assert source.activation == "sigmoid"


def test_what_the_user_says_wins_and_what_the_folder_lacks_is_asked_for(tmp_path: Path) -> None:
    unnamed = {"id2label": {0: "LABEL_0", 1: "LABEL_1"}, "label2id": {"LABEL_0": 0, "LABEL_1": 1}}
    save_resnet(tmp_path, SQUEEZED, **unnamed)
    with pytest.raises(SourceError, match="give --labels"):
        load_source(SourceRequest(f"hf:{tmp_path}"))
    given = GivenDescription(labels=("cat", "dog"), resize=ResizeTo(height=48, width=48))
    source = load_source(SourceRequest(f"hf:{tmp_path}", given=given))
    assert source.labels == ("cat", "dog")
    assert source.preprocessing.output_size == (48, 48)
    assert source.library_recipe is None
    (tmp_path / "preprocessor_config.json").unlink()
    with pytest.raises(SourceError, match="give --mean and --std"):
        load_source(SourceRequest(f"hf:{tmp_path}", given=given))


def test_a_folder_without_a_trained_head_is_refused(tmp_path: Path) -> None:
    network = save_resnet(tmp_path / "whole", SQUEEZED)
    save_resnet(tmp_path / "backbone", SQUEEZED)
    network.resnet.save_pretrained(tmp_path / "backbone")
    with pytest.raises(SourceError, match=r"has no weights for classifier\.1\.bias, classifier"):
        load_source(SourceRequest(f"hf:{tmp_path / 'backbone'}"))


def test_code_in_a_folder_is_not_run(tmp_path: Path) -> None:
    save_resnet(tmp_path, SQUEEZED)
    config = json.loads((tmp_path / "config.json").read_text())
    config |= {
        "model_type": "their_own",
        "auto_map": {
            "AutoConfig": "code.Config",
            "AutoModelForImageClassification": "code.Network",
        },
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "code.py").write_text(f"open({str(tmp_path / 'run')!r}, 'w')\n")
    with pytest.raises(SourceError, match="Python code in the folder, which convd does not run"):
        load_source(SourceRequest(f"hf:{tmp_path}"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("source", ["hf:nobody/nothing", "timm:hf-hub:nobody/nothing@main"])
def test_a_name_without_a_network_is_one_sentence(
    source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = import_library("huggingface_hub")
    monkeypatch.setattr(hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(LibraryError, match="run 'hf download nobody/nothing") as caught:
        load_source(SourceRequest(source))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("library", ["transformers", "timm"])
def test_a_library_that_is_not_installed_is_named_with_the_command(
    library: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = "model_type" if library == "transformers" else "architecture"
    (tmp_path / "config.json").write_text(json.dumps({key: "resnet"}))
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(LibraryError, match=f"{library} is not installed: pip install {library}"):
        load_source(SourceRequest(str(tmp_path)))


@pytest.mark.parametrize("spelling", ["timm:local-dir:{}", "{}"])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_folder_of_timm_says_everything_itself(
    spelling: str, channels: int, tmp_path: Path
) -> None:
    network = save_timm(tmp_path, in_chans=channels)
    source = load_source(SourceRequest(spelling.format(tmp_path)))
    assert source.labels == CLASSES
    assert source.preprocessing == Preprocessing(
        resize=ResizeShorterSide(size=201),
        center_crop=CenterCrop(height=176, width=176),
        interpolation="bicubic",
        channel_order="L" if channels == 1 else "RGB",
    )
    assert source.normalization is not None
    assert len(source.normalization.mean) == channels
    pictures = torch.rand(1, channels, 64, 64)
    assert torch.equal(source.network(pictures), network(pictures))
    assert not source.is_untrained


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("ViT", {"size": {"height": 48, "width": 40}}),
        ("ViT", {"size": {"height": 48, "width": 48}, "do_normalize": False}),
        ("ViT", {"size": {"height": 48, "width": 48}, "do_rescale": False}),
        *(
            ("ViT", {"size": {"height": 48, "width": 40}, "resample": number})
            for number in (0, 1, 4, 5)
        ),
        ("ConvNext", {"size": {"shortest_edge": 32}}),
        ("ConvNext", {"size": {"shortest_edge": 32}, "crop_pct": 0.8, "resample": 2}),
        ("ConvNext", {"size": {"shortest_edge": 384}}),
        ("Bit", {"size": {"shortest_edge": 36}, "crop_size": {"height": 32, "width": 32}}),
        ("DeiT", {"size": {"height": 36, "width": 36}, "crop_size": {"height": 32, "width": 32}}),
        ("Levit", {"size": {"shortest_edge": 28}, "crop_size": {"height": 32, "width": 32}}),
        ("MobileViT", {"size": {"shortest_edge": 40}, "crop_size": {"height": 32, "width": 32}}),
        ("MobileViT", {"size": {"shortest_edge": 32}, "crop_size": {"height": 37, "width": 37}}),
        ("MobileNetV2", {"size": {"shortest_edge": 48}, "crop_size": {"height": 32, "width": 32}}),
        ("PoolFormer", {"size": {"shortest_edge": 36}, "crop_size": {"height": 32, "width": 32}}),
        ("EfficientNet", {"size": {"height": 40, "width": 40}}),
        ("EfficientNet", {"size": {"height": 40, "width": 40}, "include_top": False}),
        (
            "EfficientNet",
            {
                "size": {"height": 40, "width": 40},
                "rescale_factor": 1 / 127.5,
                "rescale_offset": True,
            },
        ),
        ("Siglip", {"size": {"height": 32, "width": 32}}),
        ("Pvt", {"size": {"height": 32, "width": 32}}),
        ("Perceiver", {"size": {"height": 32, "width": 32}, "do_center_crop": False}),
        ("CLIP", {"size": {"shortest_edge": 36}, "crop_size": 32, "resample": 1}),
        ("ConvNext", {"size": {"shortest_edge": 32}, "resample": 5}),
        ("Levit", {"size": {"shortest_edge": 28}, "crop_size": 24, "resample": 4}),
        ("Bit", {"size": {"shortest_edge": 36}, "crop_size": 32, "resample": 0}),
    ],
)
def test_a_processor_is_read_as_it_prepares(
    kind: str, settings: dict[str, Any], tmp_path: Path
) -> None:
    """What is read of its settings gives the pixels of its own code, for pictures of any shape."""
    settings = {"image_processor_type": f"{kind}ImageProcessor", **settings}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(settings))
    processor = transformers().AutoImageProcessor.from_pretrained(tmp_path, backend="pil")
    recipe = read_image_processor(
        {"image_processor_type": type(processor).__name__, **processor.to_dict()}, 3
    )
    pictures = SamplePictures()
    shapes = [(31, 57), (90, 44), (33, 35), (20, 21)]
    odd = [pictures.picture(0).resize(shape) for shape in shapes]
    for picture in (*odd, pictures.picture(5)):
        prepared = prepare_image(picture, recipe.preprocessing)
        assert (prepared == reference_pixels(picture, recipe.preprocessing)).all()
        found = network_input(prepared[None], recipe.normalization)
        wanted = processor(picture, return_tensors="np")["pixel_values"]
        assert abs(found - wanted).max() < 1e-4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"do_resize": False}, "does not scale pictures"),
        ({"do_pad": True}, "pads pictures on one side"),
        ({"do_thumbnail": True}, "makes thumbnails"),
        ({"do_color_quantize": True}, "nearest of a palette"),
        (
            {"image_processor_type": "PerceiverImageProcessor", "do_center_crop": True},
            "cuts a square out of the middle before it scales",
        ),
        ({"size": {"shortest_edge": 32}}, "pictures keep their own shapes"),
        ({"size": {"longest_edge": 32}}, "size {'longest_edge': 32}"),
        ({"image_mean": [0.5, 0.5, 0.6, 0.5]}, "for 3 channels"),
    ],
)
def test_a_processor_that_convd_lacks_is_refused(change: dict[str, Any], message: str) -> None:
    settings = {**SQUEEZED, "do_normalize": True, "image_mean": [0.5], "image_std": [0.5], **change}
    with pytest.raises(SourceError, match=f"{message}.*give net.py:build with --resize"):
        read_image_processor(settings, 3)
