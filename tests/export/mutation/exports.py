"""Exports that are right, one for each path through the export."""

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from convd.artifact.evidence import Accuracy
from convd.artifact.manifest import Normalization
from convd.artifact.preprocessing import CenterCrop, ResizeShorterSide, ResizeTo
from convd.artifact.repository import ModelRepository
from convd.export.options import ExportOptions
from convd.export.publication import publish
from convd.export.source import TrainedNetwork
from convd.export.sources.description import GivenDescription
from convd.export.sources.labelled_pictures import load_held_out, load_training_part
from convd.export.sources.loading import SourceRequest, load_source
from convd.models import create_model
from convd.models.checkpoint import CheckpointDescription, save_checkpoint
from convd.models.data import load_dataset
from convd.models.evaluation import predict
from tests.export.digits import ClassMeans
from tests.export.endings import Ending
from tests.export.networks import CLASSES, TinyCnn

Export = Callable[[Path], None]
"""Exports a network into the folder `repository` of a folder, as the model `net`."""


def _publish(source: TrainedNetwork, folder: Path, options: ExportOptions | None = None) -> None:
    publish(source, ModelRepository(folder / "repository"), "net", options)


PHOTO = GivenDescription(
    labels=CLASSES,
    resize=ResizeShorterSide(size=20),
    crop=CenterCrop(height=18, width=16),
    mean=(0.4, 0.5, 0.6),
    std=(0.2, 0.25, 0.3),
)
DIGITS = GivenDescription(
    labels=tuple("0123456789"),
    resize=ResizeTo(height=8, width=8),
    channel_order="L",
    mean=(0.1,),
    std=(0.5,),
)


class Shifted(nn.Module):
    """Undoes a normalisation and reads digits."""

    def __init__(self, sharpness: float = 1.0) -> None:
        super().__init__()
        self.network = ClassMeans(sharpness)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.network(x * 0.5 + 0.1)
        return logits


class Square(TinyCnn):
    """Has a layer whose transposed weights fit as well, and one batch normalisation."""

    def __init__(self) -> None:
        super().__init__()
        self.square = nn.Linear(8, 8)
        self.norm = nn.BatchNorm1d(8)
        with torch.no_grad():
            self.linear.weight.mul_(5)
            assert self.norm.running_mean is not None
            assert self.norm.running_var is not None
            self.norm.running_mean.uniform_(-0.1, 0.1)
            self.norm.running_var.uniform_(0.5, 1.5)

    def classify(self, features: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.linear(self.norm(self.square(features).relu()))
        return logits


def build() -> nn.Module:
    return Square().eval()


def build_other() -> nn.Module:
    torch.manual_seed(5)
    network = Square()
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.3)
    return network.eval()


def build_digits() -> nn.Module:
    return Shifted().eval()


def build_binary() -> nn.Module:
    return Ending(1, nn.Identity())


def build_sigmoid() -> nn.Module:
    return Ending(1, nn.Sigmoid())


def build_softmax() -> nn.Module:
    return Ending(5, nn.Softmax(dim=1))


def build_sigmoids() -> nn.Module:
    return Ending(5, nn.Sigmoid())


def build_sharp() -> nn.Module:
    return Shifted(sharpness=3.0).eval()


def photo(folder: Path, build: str = "build", **changes: Any) -> None:
    given = GivenDescription(**{**vars(PHOTO), **changes})
    _publish(
        load_source(SourceRequest(f"tests.export.mutation.exports:{build}", given=given)), folder
    )


def bgr(folder: Path) -> None:
    photo(folder, channel_order="BGR")


def binary(folder: Path) -> None:
    photo(folder, "build_binary", labels=("cat", "dog"))


def one_sigmoid(folder: Path) -> None:
    photo(folder, "build_sigmoid", labels=("cat", "dog"))


def softmax(folder: Path) -> None:
    photo(folder, "build_softmax")


def sigmoids(folder: Path) -> None:
    photo(folder, "build_sigmoids")


def digits(folder: Path) -> None:
    request = SourceRequest(
        "tests.export.mutation.exports:build_digits", data="digits", given=DIGITS
    )
    _publish(load_source(request), folder)


def int8(folder: Path) -> None:
    request = SourceRequest(
        "tests.export.mutation.exports:build_digits", data="digits", given=DIGITS
    )
    options = ExportOptions(precision="int8", quantization_data=load_training_part("digits"))
    _publish(load_source(request), folder, options)


def float16(folder: Path) -> None:
    request = SourceRequest(
        "tests.export.mutation.exports:build_digits", data="digits", given=DIGITS
    )
    _publish(load_source(request), folder, ExportOptions(precision="float16"))


def calibrated(folder: Path) -> None:
    request = SourceRequest(
        "tests.export.mutation.exports:build_sharp", data="digits", given=DIGITS
    )
    source = load_source(request)
    options = ExportOptions(calibration_data=load_held_out("digits", source.labels))
    _publish(source, folder, options)


def weights(folder: Path) -> None:
    file = folder / "weights.pth"
    sets = {"state_dict": build().state_dict(), "state_dict_ema": build_other().state_dict()}
    torch.save(sets, file)
    request = SourceRequest("tests.export.mutation.exports:build", weights=file, given=PHOTO)
    _publish(load_source(request), folder)


def zoo(folder: Path) -> None:
    from tests.models import torchvision_oracle  # noqa: F401  makes torchvision importable

    torch.manual_seed(0)
    models = importlib.import_module("torchvision.models")
    file = folder / "weights.pth"
    torch.save(models.squeezenet1_1(num_classes=5).state_dict(), file)
    request = SourceRequest(
        "torchvision:squeezenet1_1:random", weights=file, given=GivenDescription(labels=CLASSES)
    )
    _publish(load_source(request), folder)


def checkpoint(folder: Path) -> None:
    splits = load_dataset("digits")
    torch.manual_seed(0)
    network = create_model("lenet5", num_classes=10, in_channels=1).eval()
    recipe = splits.preprocessing(32)
    normalization = Normalization(mean=(0.3,), std=(0.35,))
    train = predict(network, splits.train, recipe, normalization)
    # The nearest class mean of the logits: good enough to tell a wrong recipe from the right one.
    head = [module for module in network.modules() if isinstance(module, nn.Linear)][-1]
    means = torch.stack([train.logits[train.targets == kind].mean(dim=0) for kind in range(10)])
    with torch.no_grad():
        centred = means - means.mean(dim=0)
        head.weight.copy_(40 * centred @ head.weight)
        assert head.bias is not None
        head.bias.copy_(40 * (centred @ head.bias - 0.5 * (means**2).sum(dim=1)))
    held = predict(network, splits.held_out, recipe, normalization)
    accuracy = Accuracy(top1=held.top1, examples=len(splits.held_out), data=splits.held_out_name)
    description = CheckpointDescription(
        architecture="lenet5",
        num_classes=10,
        in_channels=1,
        labels=splits.labels,
        preprocessing=recipe,
        normalization=normalization,
        data="digits",
        accuracy=accuracy,
    )
    save_checkpoint(folder / "checkpoint", network, description)
    _publish(load_source(SourceRequest(str(folder / "checkpoint"))), folder)


def foreign(folder: Path) -> None:
    file = folder / "model.onnx"
    torch.onnx.export(
        nn.Sequential(build(), nn.Softmax(dim=1)).eval(),
        (torch.zeros(2, 3, 18, 16),),
        file,
        input_names=["x"],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        verbose=False,
    )
    _publish(load_source(SourceRequest(str(file), given=PHOTO)), folder)
