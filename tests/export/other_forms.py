"""The other forms of a trained network that the guide's table names."""

import json
import warnings
from pathlib import Path

import onnx
import torch
from torch import nn

from convd.models import create_model
from convd.models.installed_library import import_library
from tests.export.checkpoints import save_untrained_lenet
from tests.export.networks import CLASSES
from tests.export.public_forms import (
    LABELS,
    SCALED,
    SIZE,
    Answer,
    PublicForm,
    answers,
    scaled,
    trained_module,
)
from tests.export.sources.test_folders import save_timm
from tests.export.test_onnx_source import foreign_model


def checkpoint() -> Answer:
    return answers(save_untrained_lenet(Path("runs/lenet")), scaled)


def module() -> Answer:
    return answers(trained_module(), scaled)


def weights_of_our_architecture() -> Answer:
    network = create_model("resnet18", num_classes=5, in_channels=3)
    torch.save(network.state_dict(), "resnet18.pth")
    return answers(network, scaled)


def weights_of_torchvision() -> Answer:
    models = import_library("torchvision").models
    network = models.get_model("squeezenet1_1", weights=None, num_classes=5).eval()
    torch.save(network.state_dict(), "weights.pth")
    return answers(network, scaled)


def folder_of_timm() -> Answer:
    return answers(save_timm(Path("pets")), scaled)


def folder_of_optimum() -> Answer:
    folder = Path("pets")
    folder.mkdir()
    onnx.save(foreign_model(), folder / "model.onnx")
    config = {"model_type": "vit", "id2label": dict(enumerate(CLASSES))}
    (folder / "config.json").write_text(json.dumps(config))
    processor = {
        "image_processor_type": "ViTImageProcessor",
        "size": {"height": 16, "width": 16},
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return answers(trained_module(), scaled)


def program() -> Answer:
    network: nn.Module = trained_module()
    batch = torch.export.Dim("batch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        example = (torch.zeros(2, 3, 16, 16),)
        traced = torch.export.export(network, example, dynamic_shapes=({0: batch},))
        torch.export.save(traced, "net.pt2")
    return answers(network, scaled)


OTHER_FORMS = {
    "checkpoint": PublicForm("a folder of `convd train`", "runs/lenet", checkpoint),
    "module": PublicForm(
        "a function that returns the trained module",
        "net.py:build",
        module,
        LABELS | SIZE | SCALED,
    ),
    "architecture": PublicForm(
        "weights of an architecture that convd has",
        "--arch resnet18 --weights resnet18.pth",
        weights_of_our_architecture,
        LABELS | {"--resize": "32x32"} | SCALED,
    ),
    "torchvision": PublicForm(
        "weights of a network of torchvision",
        "torchvision:squeezenet1_1:random --weights weights.pth",
        weights_of_torchvision,
        LABELS,
    ),
    "timm-folder": PublicForm(
        "a folder of timm (`save_for_hf`)", "timm:local-dir:pets", folder_of_timm
    ),
    "optimum-folder": PublicForm(
        "a folder of optimum, with `model.onnx`", "pets", folder_of_optimum
    ),
    "program": PublicForm(
        "a program of `torch.export`", "net.pt2 --trust-code", program, LABELS | SCALED
    ),
}
"""These are exported and served in other tests."""
